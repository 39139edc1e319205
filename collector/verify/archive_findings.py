"""The findings in an archive: counts, and sentences with file, market and height."""

from typing import Any, Final

import msgspec

_EXAMPLES: Final = 50


class ArchiveFindings(msgspec.Struct, kw_only=True):
    """The outcome of one check; each count under `wrong` is a difference."""

    files: int = 0
    bytes: int = 0
    rows: int = 0
    markets: int = 0
    first: int = 0
    last: int = 0
    """Heights that the sealed parts cover, inclusive; 0 without parts."""
    named_missing: int = 0
    """Heights, over all markets, that the archive itself lists as missing."""
    named_lacking: dict[str, int] = msgspec.field(default_factory=dict)
    """By channel: heights, over all markets, that are here without it, by the archive's own word."""
    numbers_skipped: int = 0
    """Times that the n of a block's trades skips, possibly for markets not recorded."""
    blocks_compared: int = 0
    """Heights compared with the chain."""
    blocks_unavailable: int = 0
    """Heights that the node no longer has."""
    wrong: dict[str, int] = msgspec.field(default_factory=dict)
    """Differences by kind: ``file``, ``facts``, ``sequence``, ``trade``, ``coverage``, ``chain``."""
    examples: list[str] = msgspec.field(default_factory=list)
    """The first differences, as text."""

    @property
    def equal(self) -> bool:
        """Whether nothing is wrong; heights that the archive lists as missing do not count."""
        return not self.wrong

    def find(self, kind: str, sentence: str) -> None:
        """Count a difference, and keep it as text, up to a limit."""
        self.wrong[kind] = self.wrong.get(kind, 0) + 1
        if len(self.examples) < _EXAMPLES:
            self.examples.append(sentence)

    def as_dict(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        document: dict[str, Any] = msgspec.to_builtins(self)
        return document | {"equal": self.equal}

    def table(self) -> str:
        """Format it for people."""
        lines = [
            f"heights {self.first} to {self.last}, {self.markets} markets",
            f"files   {self.files:>9,}   {self.rows:,} rows, {self.bytes:,} bytes",
            f"missing {self.named_missing:>9,} heights named by the archive, over all markets",
        ]
        lines += [
            f"without {number:>9,} heights named by the archive that have no {channel}"
            for channel, number in self.named_lacking.items()
        ]
        if self.numbers_skipped:
            skipped = "trade numbers skipped: of markets not recorded, or missing (--rpc tells)"
            lines.append(f"skipped {self.numbers_skipped:>9,} {skipped}")
        if self.blocks_compared or self.blocks_unavailable:
            beside = f"   {self.blocks_unavailable:,} that the node has no more"
            lines.append(f"chain   {self.blocks_compared:>9,} blocks compared{beside}")
        lines += [f"wrong   {number:>9,} {kind}" for kind, number in self.wrong.items()]
        lines += [f"  {example}" for example in self.examples]
        if (rest := sum(self.wrong.values()) - len(self.examples)) > 0:
            lines.append(f"  and {rest:,} more")
        verdict = "whole" if self.files else "nothing is sealed yet, so nothing was checked"
        lines.append(verdict if self.equal else "NOT WHOLE")
        return "\n".join(lines)
