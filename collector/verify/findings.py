"""The findings of a check: counts, examples, a table."""

from typing import Any, Final

import msgspec

_EXAMPLES: Final = 20


class TradeCounts(msgspec.Struct):
    """Trades of the window; each count except `checked` is a difference."""

    checked: int = 0
    """Trades on the chain, in the markets checked."""
    missing: int = 0
    doubled: int = 0
    altered: int = 0
    extra: int = 0
    disordered: int = 0
    """Received after a later trade of the same market."""


class BookCounts(msgspec.Struct):
    """Books, each compared completely at one height."""

    checked: int = 0
    differing: int = 0
    broken: int = 0
    """Times that a sequence did not grow by one."""
    unchecked: int = 0
    """Samples skipped because the node did not answer fast enough."""


class BlockCounts(msgspec.Struct):
    """The ledger: each block of each market counts once."""

    checked: int = 0
    missing: int = 0


class GapCounts(msgspec.Struct):
    """Announced gaps; `open` is the number still open at the end."""

    opened: int = 0
    closed: int = 0
    open: int = 0


class Findings(msgspec.Struct, kw_only=True):
    """The outcome of one check."""

    first: int
    last: int
    """Heights of the window, inclusive."""
    markets: int
    trades: TradeCounts = msgspec.field(default_factory=TradeCounts)
    books: BookCounts = msgspec.field(default_factory=BookCounts)
    blocks: BlockCounts = msgspec.field(default_factory=BlockCounts)
    gaps: GapCounts = msgspec.field(default_factory=GapCounts)
    lost: int = 0
    """Times that frames could not be delivered to this check."""
    examples: list[str] = []
    """The first differences, as text."""

    @property
    def equal(self) -> bool:
        """Whether nothing differs. Gaps and losses are announced, so they do not count."""
        trades, books = self.trades, self.books
        return not (
            trades.missing + trades.doubled + trades.altered + trades.extra + trades.disordered
            + books.differing + books.broken + self.blocks.missing
        )  # fmt: skip

    def note(self, example: str) -> None:
        """Keep a difference as text, up to a limit."""
        if len(self.examples) < _EXAMPLES:
            self.examples.append(example)

    def as_dict(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        document: dict[str, Any] = msgspec.to_builtins(self)
        return document | {"equal": self.equal}

    def table(self) -> str:
        """Format it for people."""
        blocks = self.last - self.first + 1
        rows = (
            ("trades", msgspec.structs.asdict(self.trades)),
            ("books", msgspec.structs.asdict(self.books)),
            ("blocks", msgspec.structs.asdict(self.blocks)),
            ("gaps", msgspec.structs.asdict(self.gaps)),
            ("lost", {"announced": self.lost}),
        )
        lines = [f"heights {self.first} to {self.last} ({blocks} blocks), {self.markets} markets"]
        for name, counts in rows:
            cells = [f"{number:>9,} {what:<10}" for what, number in counts.items()]
            lines.append(f"{name:<7}{''.join(cells)}".rstrip())
        lines += [f"  {example}" for example in self.examples]
        lines.append("equal" if self.equal else "NOT EQUAL")
        return "\n".join(lines)
