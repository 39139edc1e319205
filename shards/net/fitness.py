"""
Whether a node, or a stream, is fit to provide new data, and if not, why. Pure.

A node is unfit in three cases: it has another chain, it is behind the highest head of all, or it
does not follow its chain (it says so itself, or it shows no new block). Our clock alone decides
nothing, since it may be wrong: an old block counts against a node only until its blocks are seen to
arrive at their own pace.
"""

from typing import Final, Literal, NamedTuple, TypeAlias

from shards.protocol.chain import Mark, NodeView

BEHIND: Final = 3
"""Blocks behind the highest head from which on a node, or a stream, is not fit."""
AT_HEAD: Final = 1
"""Blocks behind the newest block received up to which a stream counts as being at the head. The
difference to `BEHIND` keeps a stream from being left and returned to again and again."""
STEADY_S: Final = 10.0
"""A stream must be behind at every check for this long: a single late block means nothing."""
_STILL_S: Final = 40.0
"""Without a new block for this long, a node stands still; nodes are checked every 15 seconds."""
_OLD_S: Final = 60.0
"""A newest block older than this is old, if our clock is right."""
_PACE_S: Final = 5.0
"""A pace is measured over at least this time."""
_FASTER: Final = 2.0
"""Blocks that arrive faster than their own times by more than this factor are past blocks."""
_S: Final = 1_000_000_000

Cause: TypeAlias = Literal["silent", "foreign", "untold", "behind", "catching_up", "still", "old"]


class Verdict(NamedTuple):
    """The reason why a node is unfit, also in words for people."""

    cause: Cause | None
    reason: str

    @property
    def is_fit(self) -> bool:
        """Whether it may be asked for new data; this includes one that cannot tell its chain."""
        return self.cause in (None, "untold")


class Progress:
    """How a node's head moves, by the monotonic clock."""

    def __init__(self) -> None:
        self._height = 0
        self._moved_at = 0.0
        self._since: tuple[float, int] | None = None
        """When the measurement of the pace began, and the time of the newest block then."""
        self.pace = 0.0
        """Progress of block times divided by that of our time; 0 before two blocks were seen."""

    def saw(self, latest: Mark, now: float) -> None:
        """Take the newest block that the node shows, at an instant of the monotonic clock."""
        if latest.height == self._height:
            return
        if not self._height or latest.height < self._height:
            self._since = None
        self._height, self._moved_at = latest.height, now
        if not latest.time:
            return
        if self._since is None:
            self._since = (now, latest.time)
        elif now - self._since[0] >= _PACE_S:
            begun, time = self._since
            self.pace = (latest.time - time) / _S / (now - begun)
            self._since = (now, latest.time)

    def still_s(self, now: float) -> float:
        """Return for how long no new block has come; 0 if none was ever shown."""
        return now - self._moved_at if self._height else 0.0


class Lag:
    """How long the stream in use has been behind the highest head, by the monotonic clock."""

    def __init__(self) -> None:
        self._since: float | None = None

    @property
    def is_watched(self) -> bool:
        """Whether the stream was behind at the last check."""
        return self._since is not None

    def reset(self) -> None:
        """Start over: another session, no news of the head, or this process itself was late."""
        self._since = None

    def saw(self, height: int, head: int, now: float) -> str:
        """Compare the newest block of the stream with the head; return a reason to leave it."""
        behind = head - height
        if behind < BEHIND:
            self._since = None
        elif self._since is None:
            self._since = now
        elif now - self._since >= STEADY_S:
            return f"{behind} blocks behind the head for {now - self._since:.0f} s"
        return ""


def verdict(
    view: NodeView, foreign: str, progress: Progress, head: int, now: float, ts: int
) -> Verdict:
    """
    Judge a node that has answered.

    ``head`` is the highest block of all, ``now`` the monotonic clock, ``ts`` ours in ns.
    """
    if foreign:
        return Verdict("foreign", foreign)
    behind = head - view.latest.height
    if behind >= BEHIND:
        return Verdict("behind", f"{behind} blocks behind")
    if view.catching_up:
        return Verdict("catching_up", "it is still catching up with its chain")
    still_s = progress.still_s(now)
    if still_s > _STILL_S:
        return Verdict("still", f"no new block for {still_s:.0f} s")
    age_s = (ts - view.latest.time) / _S if view.latest.time else 0.0
    if age_s <= _OLD_S:
        return Verdict(None, "")
    if not progress.pace:
        return Verdict("old", f"its newest block is {age_s:.0f} s old, and no later one was seen")
    if progress.pace > _FASTER:
        return Verdict("catching_up", f"its newest block is {age_s:.0f} s old, and others follow")
    return Verdict(None, "")
