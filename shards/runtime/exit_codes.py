"""The exit codes of every command and process; docs/operations.md says when each occurs."""

from typing import Final

EXIT_OK: Final = 0
EXIT_BUG: Final = 1
"""An error in the program, with its traceback."""
EXIT_USAGE: Final = 2
"""The command line is wrong."""
EXIT_CONFIG: Final = 3
"""The configuration cannot be run; a restart would not help."""
EXIT_BELOW: Final = 4
"""Ended below ``--min-coverage``, or ``collector verify`` found a difference."""
