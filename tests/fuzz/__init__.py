"""
Coverage-guided fuzzing of everything that takes bytes from others.

``python -m tests.fuzz`` lists the targets; ``python -m tests.fuzz NAME --seconds 60`` runs one,
from the inputs kept in ``corpus/NAME`` (atheris: PyPI, Linux and macOS).
"""
