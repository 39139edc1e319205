"""One line of the table of budgets: the promise and the result."""

import statistics
from collections.abc import Callable
from typing import Final

import msgspec

Registered = Callable[["Scale"], "list[Line]"]
ROWS: Final[dict[str, Registered]] = {}


class Scale(msgspec.Struct, frozen=True):
    """How long and how often to measure."""

    runs: int = 5
    seconds: float = 4.0
    tiny: bool = False
    """Only to check that the bench works."""

    def size(self, real: int, tiny: int) -> int:
        """Choose a size."""
        return tiny if self.tiny else real


class Line(msgspec.Struct):
    """A figure, all runs of it, and its limit."""

    number: str
    name: str
    values: list[float]
    limit: float
    unit: str = ""
    at_least: bool = False
    note: str = ""

    @property
    def reached(self) -> float:
        """The median over the runs."""
        return statistics.median(self.values)

    @property
    def met(self) -> bool:
        """Whether the median is within the limit."""
        return self.reached >= self.limit if self.at_least else self.reached <= self.limit

    def row(self) -> tuple[str, ...]:
        """Return the line as the table shows it."""
        sign = "≥" if self.at_least else "≤"
        low, high = min(self.values), max(self.values)
        return (
            self.number,
            self.name,
            f"{sign} {self.limit:g} {self.unit}".strip(),
            f"{self.reached:.4g}",
            f"{low:.4g} to {high:.4g} ({len(self.values)})",
            "met" if self.met else "NOT met",
            self.note,
        )


HEAD: Final = ("#", "what", "budget", "reached", "lowest to highest (runs)", "verdict", "note")


def budget(number: str) -> Callable[[Registered], Registered]:
    """Register the function of a row."""

    def register(function: Registered) -> Registered:
        ROWS[number] = function
        return function

    return register


def lines_of(number: str, limits: dict[str, tuple[str, float, str]]) -> dict[str, Line]:
    """Make empty lines: by key, their name, limit and unit."""
    return {key: Line(number, name, [], limit, unit) for key, (name, limit, unit) in limits.items()}
