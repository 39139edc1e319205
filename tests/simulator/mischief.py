"""
Which faults are on, and what they make of a block for one subscription. Pure.

A subscription hears `Said` after `Said`; without faults, each block once.
"""

from collections.abc import Iterable
from typing import NamedTuple, TypeVar

import msgspec

from shards.protocol.events import BookUpdate, Level
from tests.simulator import faults
from tests.simulator.exchange import SimBlock
from tests.simulator.trading import Execution

_F = TypeVar("_F", bound=faults.Base)


class Said(NamedTuple):
    """One message to make: of this block, or of what a fault replaces it with."""

    block: SimBlock
    instead: faults.Delivery | None = None


class Hearer:
    """What mischief must know of a subscription on any protocol."""

    def __init__(self, protocol: str, markets: frozenset[str] | None, since: int) -> None:
        self.protocol = protocol
        self.markets = markets
        """None for all of them."""
        self.since = since
        """The first height it is due."""
        self.held: list[Said] = []
        self.is_dead = False
        """Hears nothing any more, and is not told."""

    def hears(self, market_id: str) -> bool:
        """Say whether a market is among its own."""
        return self.markets is None or market_id in self.markets


class Active(NamedTuple):
    """A delivery fault and when it acts; its market spelled as an id."""

    fault: faults.Delivery
    first: int

    def acts(self, height: int, hearer: Hearer) -> bool:
        """Say whether it concerns this subscription at this height."""
        fault = self.fault
        if fault.protocol not in ("", hearer.protocol):
            return False
        everywhere = not fault.market or isinstance(fault, faults.HeightJump)
        if not everywhere and not hearer.hears(fault.market):
            return False
        return self.first <= height and (not fault.blocks or height < self.first + fault.blocks)


class Mischief:
    """The faults in force."""

    def __init__(self) -> None:
        self.deliveries: list[Active] = []
        self._serving: list[faults.Base] = []
        self._refused = 0
        self.cookie = 1
        """Number of the balancer's present cookie."""

    def add(self, fault: faults.Base, height: int) -> None:
        """Put a fault in force after a height."""
        if isinstance(fault, faults.Delivery):
            self.deliveries.append(Active(fault, height + fault.after + 1))
            return
        self._serving = [f for f in self._serving if type(f) is not type(fault)] + [fault]
        self._refused = 0
        if isinstance(fault, faults.CookieChange):
            self.cookie += 1

    def clear(self) -> None:
        """End all faults; what was evicted stays evicted, what was held is still held."""
        self.deliveries.clear()
        self._serving.clear()

    def find(self, kind: type[_F], protocol: str) -> _F | None:
        """Return the fault of this kind that a server is under."""
        for fault in self._serving:
            if isinstance(fault, kind) and fault.protocol in ("", protocol):
                return fault
        return None

    def refuse(self, protocol: str) -> int:
        """Return the HTTP status that this call gets from the balancer, 0 for none."""
        fault = self.find(faults.Refuse, protocol)
        if fault is None or (fault.calls and self._refused >= fault.calls):
            return 0
        self._refused += 1
        return fault.status

    def retry_later(self, protocol: str) -> dict[str, str]:
        """Return the headers of a refusal over HTTP."""
        fault = self.find(faults.Refuse, protocol)
        return {"Retry-After": str(fault.retry_after_s)} if fault and fault.retry_after_s else {}

    def say(self, block: SimBlock, hearer: Hearer) -> list[Said]:
        """Return what a subscription hears now that this block was made."""
        if hearer.is_dead:
            return []
        said = [Said(block)]
        for active in self.deliveries:
            if active.acts(block.height, hearer):
                said = _change(active, hearer, said)
            elif hearer.held and _releases(active, block.height):
                said = _release(active, hearer, said)
        return said


def _releases(active: Active, height: int) -> bool:
    return isinstance(active.fault, faults.Stall | faults.Reorder) and height >= active.first


def _release(active: Active, hearer: Hearer, said: list[Said]) -> list[Said]:
    held, hearer.held = hearer.held, []
    return held + said if isinstance(active.fault, faults.Stall) else said + held


def _change(active: Active, hearer: Hearer, said: list[Said]) -> list[Said]:
    match active.fault:
        case faults.Mute(sticky=sticky):
            hearer.is_dead = sticky or hearer.since <= active.first
            return [] if hearer.is_dead else said
        case faults.Gap(what="blocks") | faults.HeightJump():
            return []
        case faults.Gap(what=what):
            return [_without(one, active.fault.market, {what}) for one in said]
        case faults.WrongIds(market=market):
            return [_without(one, market, {"updates", "trades"}) for one in said]
        case faults.Duplicate():
            return said + said
        case faults.Stall():
            hearer.held += said
            return []
        case faults.Late(behind=behind):
            told = [*hearer.held, *said]
            hearer.held = told[-behind:]
            return told[:-behind]
        case faults.Reorder():
            return _reorder(hearer, said)
        case faults.ClockSkew(ms=ms):
            return [_skewed(one, ms) for one in said]
        case faults.Lie(market=market, what=what):
            return [_false(one, market, what) for one in said]
        case faults.StreamError() as fault:
            hearer.is_dead = True
            return [one._replace(instead=fault) for one in said]
        case fault:
            return [one._replace(instead=fault) for one in said]


def _reorder(hearer: Hearer, said: list[Said]) -> list[Said]:
    if hearer.held:
        held, hearer.held = hearer.held, []
        return said + held
    hearer.held = said
    return []


def _without(said: Said, market: str, what: Iterable[str]) -> Said:
    """Take the updates, the trades or both of one market, or of all, out of a block."""
    block = said.block
    updates, executions = block.updates, block.executions
    if "updates" in what:
        updates = [u for u in updates if market and u.market_id != market]
    if "trades" in what:
        executions = [e for e in executions if market and e.market_id != market]
    return said._replace(block=SimBlock(block.height, block.time_ms, executions, updates))


def _false(said: Said, market: str, what: str) -> Said:
    """Change the prices of trades, or the quantities of levels, of one market or of all."""
    block = said.block
    updates, executions = block.updates, block.executions
    if what == "updates":
        updates = [u if market and u.market_id != market else _false_update(u) for u in updates]
    else:
        executions = [
            e if market and e.market_id != market else _false_execution(e) for e in executions
        ]
    return said._replace(block=SimBlock(block.height, block.time_ms, executions, updates))


def _false_update(update: BookUpdate) -> BookUpdate:
    replace = msgspec.structs.replace
    sides = [[(price, f"1{quantity}") for price, quantity in side] for side in _sides(update)]
    return replace(update, bids=sides[0], asks=sides[1])


def _sides(update: BookUpdate) -> tuple[list[Level], list[Level]]:
    return update.bids, update.asks


def _false_execution(execution: Execution) -> Execution:
    replace = msgspec.structs.replace
    trades = [replace(trade, price=f"1{trade.price}") for trade in execution.trades]
    return replace(execution, trades=trades)


def _skewed(said: Said, ms: int) -> Said:
    block = said.block
    skewed = SimBlock(block.height, block.time_ms + ms, block.executions, block.updates)
    return said._replace(block=skewed)
