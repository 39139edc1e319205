"""How the recorder's child that seals a part ends, besides 0 and failures. Pure."""

from typing import Final

ALREADY: Final = 75
"""The part is sealed already."""
