"""The drills by name, and what one writes down while it runs."""

import importlib
import pkgutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeVar

from tests.system.running import eventually

_T = TypeVar("_T")

What = Literal["done", "seen", "said", "healed"]
"""``done``: what the drill did; ``seen``: the collector noticed; ``said``: somebody was told;
``healed``: it is as it should be again."""


class Row(NamedTuple):
    """One line of the table."""

    at_s: float
    """Seconds since the fault; 0 before it."""
    what: What
    text: str


class Stage:
    """Where one drill takes place: its folder, its clock, its notes."""

    def __init__(self, folder: Path, *, short: bool, minutes: float | None = None) -> None:
        self.folder = folder
        self.short = short
        """Whether it is to be quick: the simulator for the node, shorter waits."""
        self._minutes = minutes
        self.rows: list[Row] = []
        self._broke_at: float | None = None

    def broke(self, text: str) -> None:
        """Note the fault: times count from here."""
        self._broke_at = time.monotonic()
        self.note("done", text)

    def note(self, what: What, text: str) -> None:
        """Note what happened just now."""
        self.rows.append(Row(self.elapsed_s, what, text))

    def await_(
        self,
        what: What,
        text: str,
        condition: Callable[[], _T],
        *,
        within_s: float,
        every_s: float = 0.02,
    ) -> _T:
        """Wait for something true, note when it came, and return it; fail at the deadline."""
        found = eventually(condition, within_s=within_s, every_s=every_s, what=text)
        self.note(what, text)
        return found

    def watch_s(self, *, short: float, full: float) -> float:
        """Return how long to watch that something does not happen: `--minutes`, or by the form."""
        if self._minutes is not None:
            return self._minutes * 60
        return short if self.short else full

    @property
    def elapsed_s(self) -> float:
        """Seconds since the fault."""
        return 0.0 if self._broke_at is None else time.monotonic() - self._broke_at

    def table(self) -> str:
        """Return the notes as lines of text."""
        return "\n".join(f"{row.at_s:8.2f} s  {row.what:6}  {row.text}" for row in self.rows)


class Drill(NamedTuple):
    """One fault and how it is brought about."""

    name: str
    """Of the row in the list of faults: ``A1``."""
    title: str
    run: Callable[[Stage], None]
    needs_node: bool
    """Whether it runs the real node, also when it is short."""
    is_short: bool
    """Whether it has a short form, for every run of the tests."""


DRILLS: Final[dict[str, Drill]] = {}


def drill(
    name: str, title: str, *, needs_node: bool = False, is_short: bool = True
) -> Callable[[Callable[[Stage], None]], Callable[[Stage], None]]:
    """Register a function as a drill; it asserts what must be true, and notes what it saw."""

    def register(run: Callable[[Stage], None]) -> Callable[[Stage], None]:
        assert name not in DRILLS, f"two drills {name}"
        DRILLS[name] = Drill(name, title, run, needs_node, is_short)
        return run

    return register


def load() -> dict[str, Drill]:
    """Import every module of this folder and return the drills, in the order of the list."""
    package = importlib.import_module("tests.system.drill")
    for module in pkgutil.iter_modules(package.__path__):
        if module.name != "__main__":
            importlib.import_module(f"tests.system.drill.{module.name}")
    return dict(sorted(DRILLS.items(), key=lambda item: _place(item[0])))


def _place(name: str) -> tuple[str, int, str]:
    letter, rest = name[:1], name[1:]
    digits = "".join(c for c in rest if c.isdigit())
    return letter, int(digits or 0), rest


def perform(found: Drill, *, short: bool, minutes: float | None = None) -> Stage:
    """
    Run one drill in a folder of its own; ``minutes`` is how long it watches, where it does.

    Raises:
        AssertionError: If something did not happen as it must; the notes so far are its text.

    """
    with tempfile.TemporaryDirectory(prefix="drill-") as folder:
        stage = Stage(Path(folder), short=short, minutes=minutes)
        try:
            found.run(stage)
        except AssertionError as error:
            raise AssertionError(f"{found.name}: {error}\n{stage.table()}") from error
        return stage
