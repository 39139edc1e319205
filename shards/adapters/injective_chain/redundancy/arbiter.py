"""
Hand on the first copy of each block, and drop the others before they are decoded.

One `Path` per node receives that node's payloads. The payloads of one market (or of one group of
markets) from all paths share a `Lane`, which knows the highest block handed on::

    path 0 ──payload──► peek ─► follows the lane? ──► first copy: handed on
    path 1 ──payload──► peek ─► known already?    ──► second copy: dropped, sometimes compared
                               └ jumps ahead?     ──► held while another path may fill the hole

A path may join, lag or end at any time. The pipeline behind notices that only if no other path
serves the market.
"""

from collections.abc import Callable, Collection, Iterable
from typing import Final, Protocol, TypeAlias
from zlib import crc32

from shards.adapters.injective_chain.redundancy import copies
from shards.adapters.injective_chain.redundancy.copies import Difference
from shards.adapters.injective_chain.redundancy.peek import Peek
from shards.adapters.interface import Sink
from shards.core.pipeline import Decoder
from shards.protocol.events import Cause, Confirmed, Rejected, Source

_PATIENCE: Final = 2
"""Blocks of a market that are held while another path may bring the block before them."""
_LATENESS: Final = 1 / 16
"""Weight of the newest comparison in a path's average lateness."""


class RedundantSink(Sink, Protocol):
    """The shard, as several paths see it."""

    def subscribed(
        self, subscription: int, market_ids: Iterable[str], served: Collection[str] = ()
    ) -> None:
        """A subscription is about to be requested; another one serves the markets ``served``."""

    def left(
        self, subscriptions: Iterable[int], unserved: Collection[str], cause: Cause, reason: str
    ) -> None:
        """Some subscriptions ended; no other one serves the markets ``unserved``."""

    def read_ended(self) -> None:
        """The last payload of a read was dropped: push what the others brought."""


class Lane:
    """What all paths bring of the same markets."""

    __slots__ = ("due", "held", "kept", "market_ids", "reached", "units")

    def __init__(self, market_ids: tuple[str, ...]) -> None:
        self.market_ids = market_ids
        self.reached = 0
        """The highest block handed on."""
        self.due = 0
        """From this height on, the next first copy is kept for a comparison."""
        self.kept: Kept | None = None
        self.held: list[tuple[Unit, bytes, int, int]] = []
        """Payloads that jumped ahead: their unit, height and ``ts_recv``."""
        self.units: list[Unit] = []


class Unit:
    """One subscription of one path."""

    __slots__ = ("is_confirmed", "lane", "newest", "number", "path")

    def __init__(self, path: "Path", number: int, lane: Lane) -> None:
        self.path = path
        self.number = number
        self.lane = lane
        self.newest = 0
        """Its newest block; 0 before the first."""
        self.is_confirmed = False


Kept: TypeAlias = tuple[int, bytes, Unit, int]
"""A first copy to compare with: its height, payload, unit and ``ts_recv``."""


class Path:
    """Receives the payloads of one node; the sink of its source."""

    def __init__(self, arbiter: "Arbiter", number: int, peek: Peek, sink: RedundantSink) -> None:
        self.number = number
        self._arbiter = arbiter
        self._peek = peek
        self._sink = sink
        self.units: dict[int, Unit] = {}
        """By subscription."""
        self.of_market: dict[str, Unit] = {}
        self.first = 0
        """First copies: blocks of subscriptions."""
        self.second = 0
        self.compared = 0
        self.differed = 0
        """Comparisons in which its copy was not the same; the other one may be wrong."""
        self.contradicted = 0
        """Blocks of markets in which the chain's record contradicts it."""
        self.late_ns = 0.0
        """Average time by which its copies come after the first copies."""

    def serves(self, market_id: str) -> bool:
        """Return whether a confirmed subscription of this path covers a market."""
        unit = self.of_market.get(market_id)
        return unit is not None and unit.is_confirmed

    # ---- the data path ----------------------------------------------------------------

    def receive(
        self, payload: bytes | memoryview, ts_recv: int, last: bool, subscription: int = 0
    ) -> None:
        """Hand on a first copy, drop a second one."""
        number, height = self._peek(payload, subscription)
        unit = self.units.get(number)
        if unit is None or not height:
            self._receive_other(payload, ts_recv, last, subscription)
            return
        lane = unit.lane
        if height == lane.reached + 1:
            lane.reached = unit.newest = height
            self.first += 1
            if height >= lane.due:
                self._arbiter.keep(unit, height, payload, ts_recv)
            self._sink.receive(payload, ts_recv, last, number)
            if lane.held:
                self._arbiter.release(lane)
        elif 0 < unit.newest < height <= lane.reached:
            unit.newest = height
            self.second += 1
            kept = lane.kept
            if kept is not None and kept[0] == height:
                self._arbiter.compare(unit, kept, payload, ts_recv)
            if last:
                self._sink.read_ended()
        else:
            self._receive_unusual(unit, height, payload, ts_recv, last)

    def _receive_unusual(
        self, unit: Unit, height: int, payload: bytes | memoryview, ts_recv: int, last: bool
    ) -> None:
        """Take a subscription's first block, a jump, or a block that does not go forward."""
        lane = unit.lane
        unit.newest = height
        unit.is_confirmed = True
        if height <= lane.reached:
            # Only the pipeline can tell another chain's block from a known one.
            self._sink.receive(payload, ts_recv, last, unit.number)
        elif lane.reached and any(other is not unit for other in self._arbiter.active(lane)):
            lane.held.append((unit, bytes(payload), height, ts_recv))
            if len(lane.held) > _PATIENCE:
                self._arbiter.release(lane, everything=True)
            if last:
                self._sink.read_ended()
        else:
            self._arbiter.pass_on(unit, height, payload, ts_recv, last)

    def _receive_other(
        self, payload: bytes | memoryview, ts_recv: int, last: bool, subscription: int
    ) -> None:
        """Take an answer, garbage, or a message of a subscription that has ended."""
        number, message = self._arbiter.decode(payload, subscription)
        unit = self.units.get(number)
        if unit is not None and type(message) is Confirmed:
            unit.is_confirmed = True
        elif unit is not None and type(message) is Rejected:
            markets = unit.lane.market_ids
            self._arbiter.end([unit])
            if all(self._arbiter.serves(market_id) for market_id in markets):
                self._sink.left([number], (), "disconnect", message.reason)
                self._arbiter.refused(self, markets, message.reason)
                return
        self._sink.receive(payload, ts_recv, last, subscription)

    # ---- subscriptions ----------------------------------------------------------------

    def subscribed(self, subscription: int, market_ids: Iterable[str]) -> None:
        """Note a subscription that is about to be requested."""
        self._arbiter.begin(self, subscription, tuple(market_ids))

    def confirmed(self, subscription: int) -> None:
        """Note that a subscription was accepted."""
        unit = self.units.get(subscription)
        if unit is not None:
            unit.is_confirmed = True
        self._sink.confirmed(subscription)

    def lost(self, subscription: int, cause: Cause, reason: str) -> None:
        """Note that one subscription has ended."""
        unit = self.units.get(subscription)
        if unit is not None:
            self._arbiter.leave([unit], cause, reason)

    def disconnected(self, cause: Cause, reason: str) -> None:
        """Note that the connection is gone."""
        self._arbiter.leave(list(self.units.values()), cause, reason)


class Arbiter:
    """The lanes of a shard, and what the paths have in common."""

    def __init__(
        self,
        sink: RedundantSink,
        peek: Peek,
        decode: Decoder,
        *,
        paths: int,
        compare_every: int,
        refused: Callable[[Path, tuple[str, ...], str], None],
        endpoint: Callable[[int], str],
        source: Source,
    ) -> None:
        """
        ``refused`` is called if a node refuses a subscription that another path serves;
        ``endpoint`` returns what a path reads now; ``source`` is the source name in events.
        """
        self._sink = sink
        self.decode = decode
        self.refused = refused
        self._compare_every = compare_every
        self._lanes: dict[tuple[str, ...], Lane] = {}
        self.paths = [Path(self, number, peek, sink) for number in range(paths)]
        self.endpoint = endpoint
        self._source: Source = source
        self.on_difference: Callable[[Difference], None] = _ignore
        """Called for each difference between two copies."""

    def serves(self, market_id: str) -> bool:
        """Return whether any path serves a market."""
        return any(path.serves(market_id) for path in self.paths)

    def active(self, lane: Lane) -> list[Unit]:
        """Return the lane's subscriptions that may still fill a hole."""
        return [u for u in lane.units if u.is_confirmed and 0 < u.newest <= lane.reached]

    def height(self, path: Path) -> int:
        """Return the newest block of a path; 0 without one."""
        return max((unit.newest for unit in path.units.values()), default=0)

    # ---- copies -----------------------------------------------------------------------

    def pass_on(
        self, unit: Unit, height: int, payload: bytes | memoryview, ts_recv: int, last: bool
    ) -> None:
        """Hand on a first copy that does not follow the lane."""
        lane = unit.lane
        if not lane.due:
            # Staggered by market, so that comparisons do not all fall on one block.
            lane.due = height + crc32("".join(lane.market_ids).encode()) % self._compare_every
        lane.reached = height
        unit.path.first += 1
        if height >= lane.due:
            self.keep(unit, height, payload, ts_recv)
        self._sink.receive(payload, ts_recv, last, unit.number)

    def release(self, lane: Lane, *, everything: bool = False) -> None:
        """Hand on the held payloads that follow now; all of them, if nothing else is expected."""
        lane.held.sort(key=_height)
        while lane.held:
            unit, payload, height, ts_recv = lane.held[0]
            if height > lane.reached + 1 and not everything:
                return
            del lane.held[0]
            if height > lane.reached:
                self.pass_on(unit, height, payload, ts_recv, True)

    def keep(self, unit: Unit, height: int, payload: bytes | memoryview, ts_recv: int) -> None:
        """Keep a first copy, to compare the second one with it."""
        lane = unit.lane
        lane.due = height + self._compare_every
        if len(lane.units) > 1:
            lane.kept = height, bytes(payload), unit, ts_recv

    def compare(self, unit: Unit, kept: Kept, payload: bytes | memoryview, ts_recv: int) -> None:
        """Compare a second copy with the first one."""
        height, first, published, ts_first = kept
        lane, path = unit.lane, unit.path
        if published.path is path:
            return
        path.compared += 1
        path.late_ns += _LATENESS * (ts_recv - ts_first - path.late_ns)
        second = bytes(payload)
        if copies.same_bytes(first, second):
            return
        blocks = copies.decode_both(self.decode, first, second, published.number, unit.number)
        if blocks is None or not copies.differences(*blocks, lane.market_ids):
            return
        path.differed += 1
        self.on_difference(
            Difference(
                height=height,
                market_ids=lane.market_ids,
                first=self.endpoint(published.path.number),
                second=self.endpoint(path.number),
                published=blocks[0],
                other=blocks[1],
                source=self._source,
            )
        )

    # ---- subscriptions ----------------------------------------------------------------

    def begin(self, path: Path, number: int, market_ids: tuple[str, ...]) -> None:
        """A path subscribes some markets; its earlier subscriptions of them are void."""
        self.end({unit for market_id in market_ids if (unit := path.of_market.get(market_id))})
        served = {market_id for market_id in market_ids if self.serves(market_id)}
        name = tuple(sorted(market_ids))
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = Lane(name)
        unit = path.units[number] = Unit(path, number, lane)
        lane.units.append(unit)
        for market_id in market_ids:
            path.of_market[market_id] = unit
        self._sink.subscribed(number, market_ids, served)

    def end(self, units: Collection[Unit]) -> None:
        """Forget subscriptions; what they held is handed on if nothing can fill the hole."""
        for unit in units:
            path, lane = unit.path, unit.lane
            path.units.pop(unit.number, None)
            for market_id in lane.market_ids:
                if path.of_market.get(market_id) is unit:
                    del path.of_market[market_id]
            if unit in lane.units:
                lane.units.remove(unit)
            if lane.held:
                lane.held = [held for held in lane.held if held[0] is not unit]
                self.release(lane, everything=not self.active(lane))
            if not lane.units:
                self._lanes.pop(lane.market_ids, None)

    def doubt(self, market_id: str) -> None:
        """A market is about to be subscribed again on all paths: none serves it until then."""
        for path in self.paths:
            if unit := path.of_market.get(market_id):
                unit.is_confirmed = False

    def leave(self, units: list[Unit], cause: Cause, reason: str) -> None:
        """Subscriptions have ended; only markets that no path serves any more are lost."""
        markets = {market_id for unit in units for market_id in unit.lane.market_ids}
        self.end(units)
        unserved = {market_id for market_id in markets if not self.serves(market_id)}
        self._sink.left([unit.number for unit in units], unserved, cause, reason)
        # Subscriptions that were requested but not answered are now the only ones.
        for unit in {
            unit
            for path in self.paths
            for market_id in unserved
            if (unit := path.of_market.get(market_id))
        }:
            self._sink.subscribed(unit.number, unit.lane.market_ids)

    def forget(self, market_ids: Iterable[str]) -> None:
        """These markets are not collected any more."""
        for path in self.paths:
            alone = [path.of_market.get(market_id) for market_id in market_ids]
            self.end([unit for unit in alone if unit and len(unit.lane.market_ids) == 1])


def _ignore(_: Difference) -> None:
    """Do nothing: no one has asked for differences yet."""


def _height(held: tuple[Unit, bytes, int, int]) -> int:
    return held[2]
