"""
The desired shards and markets of one run, updated by admin commands and listings.

Pure: the input is listings of the chain, progress from the aggregator, and admin commands; the output
is the assignment and the answers to commands. The controller carries it out.
"""

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

import msgspec

from collector.aggregator.coordination import PendingCommand
from collector.control import placement
from collector.control.overload import Overload
from collector.control.placement import SLACK, Assignment, Command
from collector.markets import selection
from collector.markets.parts import Part
from collector.settings.parts import Supervision
from collector.settings.wording import plural
from shards.protocol.errors import ConfigError
from shards.protocol.settings import Market

_ANSWERS: Final = 200
"""Answers to commands that are kept: more than the commands that an aggregator remembers. All of them
go to it twice a second."""
_PATIENCE_S: Final = 60.0
"""How long a command is waited for before the next one begins. A market that cannot become live may keep
one from being done for ever; the next may be the one that removes it."""


class Selection(msgspec.Struct, frozen=True):
    """Which markets this run collects, apart from admin commands."""

    patterns: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    follows: bool = True
    """Whether markets listed later are added."""
    part: Part = Part()
    """This cell's share of the markets."""


class Commands:
    """The admin commands: those being carried out, and the answers to all."""

    def __init__(self) -> None:
        self.answers: dict[str, dict[str, str]] = {}
        """State and text of the newest commands, by token."""
        self.carried_out: dict[str, str] = {}
        """Those being carried out: their answers, by token. More than one only if the last one takes
        longer than `_PATIENCE_S`."""
        self.is_busy = False
        """Whether the newest of them is waited for."""
        self._begun_at = 0.0
        self.wants_listing = False
        """Whether to list the markets now, because a command names an unknown one."""
        self._looked = ""
        """Token of the command that requested it."""

    def begin(self, order: Command, text: str, now: float) -> None:
        """Note that a command is being carried out; ``text`` is its answer."""
        self.carried_out[order.token] = text
        self.is_busy, self._begun_at = True, now
        self._keep(order.token, "moving", text)

    def wait(self, now: float) -> None:
        """Nothing of it is outstanding yet: after a while it is no longer waited for."""
        self.is_busy = self.is_busy and now - self._begun_at < _PATIENCE_S

    def end(self) -> list[str]:
        """All of them are done; return their answers."""
        texts = list(self.carried_out.values())
        for token, text in self.carried_out.items():
            self._keep(token, "done", text)
        self.carried_out, self.is_busy = {}, False
        return texts

    def _keep(self, token: str, state: str, text: str) -> None:
        self.answers[token] = {"state": state, "text": text}
        if len(self.answers) > _ANSWERS:
            del self.answers[next(iter(self.answers))]

    def refuse(self, asked: PendingCommand, error: Exception) -> None:
        """Refuse a command; one that adds markets only after a new listing."""
        if asked.fields.get("kind") == "add" and self._looked != asked.token:
            # The market may have been listed after our last look.
            self.wants_listing, self._looked = True, asked.token
        else:
            self._keep(asked.token, "refused", str(error))


class DesiredState:
    """The assignment of markets, and the commands that change it, in turn."""

    def __init__(
        self,
        found: Sequence[Market],
        assignment: Assignment,
        selected: Selection,
        limits: Supervision,
        *,
        weights: Mapping[str, float] | None = None,
        check_shards: Callable[[int], None] = lambda _: None,
    ) -> None:
        """``check_shards`` raises `ConfigError` for a number of shards that cannot run here."""
        self.assignment = assignment
        self.revision = 1
        """Revision of the assignment; grows with every change."""
        self.listed_through = 0
        self.commands = Commands()
        self.overload = Overload(limits)
        self.notes: deque[str] = deque()
        """Log lines to be written."""
        self._selected = selected
        self._found = {market.market_id: market for market in found}
        self._weights = dict(weights or {})
        self._check_shards = check_shards
        self._retired: set[str] = set()
        """Markets that we collected and that are no longer listed."""
        self._gone: set[str] = set()
        """Missing in the last listing: retired if missing in the next one too."""
        self._removed: set[str] = set()
        """Removed by a command: not added again by a listing."""
        self._is_ours: dict[str, bool] = {}
        """Whether a market is in our part, by id."""
        self._listings = 0
        self._taken: tuple[int, Sequence[Market]] = (0, ())
        """The revision after the last listing that changed anything, and that listing."""
        self._summed_up: tuple[tuple[int, int], dict[str, str], bool] | None = None
        """What follows from the listing and the assignment, for `statuses` and `every_market`."""

    # ---- what there is --------------------------------------------------------------

    @property
    def markets(self) -> list[Market]:
        """All markets of this run, including those no longer listed."""
        return [self._found[m] for m in (*self.assignment.wanted, *self._retired)]

    def of(self, shard: int) -> tuple[Market, ...]:
        """Return the markets of one shard."""
        wanted = self.assignment.wanted
        return tuple(self._found[m] for m, owner in wanted.items() if owner == shard)

    @property
    def statuses(self) -> dict[str, str]:
        """Return the markets' statuses by id; the same object until something changes."""
        return self._sum_up()[1]

    @property
    def every_market(self) -> bool:
        """Whether these are all the markets of the network, or of our part of it."""
        return self._sum_up()[2]

    def _sum_up(self) -> tuple[tuple[int, int], dict[str, str], bool]:
        """Return both. They are asked for twice a second, and take milliseconds to find out."""
        version = self.revision, self._listings
        if self._summed_up is None or self._summed_up[0] != version:
            statuses = {market.market_id: market.status for market in self.markets}
            active = {market.market_id for market in self._ours() if market.status == "Active"}
            is_every = active <= self.assignment.wanted.keys()
            self._summed_up = version, statuses, is_every
        return self._summed_up

    @property
    def is_busy(self) -> bool:
        """Whether a command is being carried out, and waited for."""
        return self.commands.is_busy

    def _change(self, assignment: Assignment) -> bool:
        if assignment == self.assignment:
            return False
        self.assignment = assignment
        self.revision += 1
        return True

    # ---- what the chain lists -------------------------------------------------------

    def listed(self, found: Sequence[Market], through: int) -> None:
        """
        Take a new listing of all markets, made when the chain's head was `through`.

        New markets go to the shard with the least load. A market missing twice is retired.
        """
        if not found:
            # A listing without any market is not credible.
            return
        if not self._gone and self._taken == (self.revision, found):
            # As before, and nothing is different since then.
            self.listed_through, self.commands.wants_listing = through, False
            return
        named = self._named(found)
        missing = {
            market_id
            for market_id in self.assignment.wanted.keys() - named.keys()
            if self._found[market_id].type != "chain"
        }
        for market_id in missing & self._gone:
            self._retire(market_id)
        self._gone = missing
        for market_id in (missing | self._retired) - named.keys():
            named[market_id] = msgspec.structs.replace(self._found[market_id], status="Gone")
        for market_id, market in named.items():
            before = self._found.get(market_id)
            if before is not None and before.status != market.status:
                self.notes.append(f"{market.symbol} is {market.status}, it was {before.status}")
        if any(_is_changed(self._found.get(m), named.get(m)) for m in self.assignment.wanted):
            # The aggregator receives markets with a new revision, statuses at every poll.
            self.revision += 1
        self._found |= named
        self._listings += 1
        self.listed_through = through
        self._take_new()
        self._taken = self.revision, found
        self.commands.wants_listing = False

    def _ours(self) -> list[Market]:
        """Return the known markets of our part; each market's part is found out once."""
        part, kept = self._selected.part, self._is_ours
        for market_id in self._found.keys() - kept.keys():
            kept[market_id] = part.has(self._found[market_id])
        return [market for market_id, market in self._found.items() if kept[market_id]]

    def _named(self, found: Sequence[Market]) -> dict[str, Market]:
        """Keep every market's symbol, and give new markets a free one."""
        known = {market.market_id: market.symbol for market in self._found.values()}
        return {market.market_id: market for market in selection.with_symbols(found, known)}

    def _retire(self, market_id: str) -> None:
        wanted = {m: s for m, s in self.assignment.wanted.items() if m != market_id}
        if wanted:
            self._retired.add(market_id)
            self._change(Assignment(self.assignment.shards, wanted))
            self.notes.append(f"{self._found[market_id].symbol} is no longer listed: retired")

    def _take_new(self) -> None:
        """Add the markets that match our selection and are not collected yet."""
        if not self._selected.follows:
            return
        candidates = [
            market
            for market in self._ours()
            if market.status == "Active"
            and market.market_id not in self.assignment.wanted
            and market.market_id not in self._removed
        ]
        new = placement.chosen(candidates, self._selected.patterns, self._selected.types)
        for market in new:
            self._retired.discard(market.market_id)
            self.notes.append(f"{market.symbol} is newly listed: collecting it")
        if new:
            ids = [market.market_id for market in new]
            self._change(placement.place(self.assignment, ids, self._weights))

    # ---- what people ask for --------------------------------------------------------

    def order(
        self, commands: Sequence[PendingCommand], measured: Mapping[str, float], now: float
    ) -> None:
        """
        Begin the next command, unless one is waited for.

        ``measured`` are the markets' weights, ``now`` is monotonic seconds.
        """
        ours = self.commands
        for asked in commands:
            if ours.is_busy or ours.wants_listing:
                return
            if asked.token in ours.answers:
                continue
            try:
                order = msgspec.convert(asked.fields | {"token": asked.token}, Command)
                ours.begin(order, self._begin(order, measured), now)
            except (ConfigError, msgspec.ValidationError) as error:
                ours.refuse(asked, error)

    def _begin(self, order: Command, measured: Mapping[str, float]) -> str:
        """Plan a command; return the answer for when it is done."""
        before = self.assignment
        match order.kind:
            case "add":
                return self._add(order.markets)
            case "remove":
                return self._remove(order.markets)
            case "scale":
                self._check_shards(order.number)
                after = placement.scale(before, order.number, self._weights)
            case "drain":
                after = placement.drain(before, order.number, self._weights)
            case _:
                after = placement.even(before, measured or self._weights, slack=SLACK)
        number = sum(self._found[m].type != "chain" for m in placement.moved(before, after))
        if not self._change(after):
            return f"nothing to move: {self._sizes()}"
        return f"moved {plural(number, 'market')}: {self._sizes()}"

    def _add(self, patterns: Sequence[str]) -> str:
        # The chain's own feed is assigned like a market, but is not one.
        markets = [market for market in self._found.values() if market.type != "chain"]
        chosen, part = selection.choose(markets, patterns), self._selected.part
        if others := [market for market in chosen if not part.has(market)]:
            raise ConfigError(
                f"{_names(others)} is not in part {part}, which is this cell's: ask the cell of "
                "the other part"
            )
        new = [m for m in chosen if m.market_id not in self.assignment.wanted]
        if not new:
            raise ConfigError(f"{_names(chosen)} is collected already")
        ids = [market.market_id for market in new]
        self._removed.difference_update(ids)
        self._retired.difference_update(ids)
        self._change(placement.place(self.assignment, ids, self._weights))
        return f"added {_names(new)}: {self._sizes()}"

    def _remove(self, patterns: Sequence[str]) -> str:
        ours = [market for market in self.markets if market.type != "chain"]
        chosen = selection.choose(ours, patterns)
        ids = {market.market_id for market in chosen}
        wanted = {m: s for m, s in self.assignment.wanted.items() if m not in ids}
        if all(self._found[market_id].type == "chain" for market_id in wanted):
            raise ConfigError("no market would be left: stop the collector instead")
        self._removed |= ids
        self._retired -= ids
        self.revision += 1
        self.assignment = Assignment(self.assignment.shards, wanted)
        return f"removed {_names(chosen)}: {self._sizes()}"

    def _sizes(self) -> str:
        sizes = dict.fromkeys(sorted(self.assignment.shards), 0)
        for market_id, shard in self.assignment.wanted.items():
            sizes[shard] += self._found[market_id].type != "chain"
        each = ", ".join(f"shard {shard}: {count}" for shard, count in sizes.items())
        return f"{plural(sum(sizes.values()), 'market')}, {each}"

    def arrived(
        self, unsettled: Collection[str], running: Collection[int], revision: int, now: float
    ) -> None:
        """
        Take the aggregator's progress: markets not on their assigned shard yet, running shards.

        A command is done when nothing is outstanding there.
        """
        is_settled = revision == self.revision and not unsettled
        if is_settled and set(running) == self.assignment.shards:
            self.notes.extend(self.commands.end())
        else:
            self.commands.wait(now)

    def spare(
        self, running: Collection[int], counts: Mapping[int, int], revision: int
    ) -> list[int]:
        """Return the running shards that are no longer needed and have no market left."""
        if revision != self.revision:
            return []
        return [n for n in running if not counts.get(n) and n not in self.assignment.shards]

    # ---- what the shards use --------------------------------------------------------

    def ease(
        self, hot: int, now: float, cpu: Mapping[int, float], measured: Mapping[str, float]
    ) -> None:
        """Move markets from an overloaded shard to another, if one has room."""
        self.overload.relieve(now)
        before = self.assignment
        after = placement.ease(before, hot, cpu, measured)
        number = len(placement.moved(before, after))
        if self._change(after):
            self.notes.append(f"shard {hot} is overloaded: moving {plural(number, 'market')} away")
        else:
            self.notes.append(
                f"shard {hot} is overloaded, and no other shard has room: "
                "'collector scale' adds shards"
            )


def _names(markets: Sequence[Market]) -> str:
    if len(markets) > 3:
        return plural(len(markets), "market")
    return ", ".join(market.symbol for market in markets)


def _is_changed(before: Market | None, now: Market | None) -> bool:
    """Return whether more than a market's status has changed, such as its ticks or fees."""
    if before is None or now is None:
        return False
    return msgspec.structs.replace(before, status=now.status) != now
