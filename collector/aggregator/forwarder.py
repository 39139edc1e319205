"""
The aggregator: batches in from every shard, frames out to every subscriber.

It reads the records' headers, never the events inside. Per topic it sees to it that each
fact goes out once (a restarted shard may repeat some); per shard that nothing is lost on
the way and that an older process is not heard any more. Requests of late joiners and the
shards' reports are answered in requests.py, with what is kept here.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec
import zmq

from collector.aggregator.admin_commands import Orders
from collector.aggregator.handover import Ownership
from collector.aggregator.publisher import Publishing, middle_of
from collector.aggregator.state.coverage import NOBODY, UNOWNED, Coverage
from collector.aggregator.state.listings import Listings
from collector.aggregator.state.saved import Saved, Saving, begin_run
from collector.aggregator.state.shard_sessions import ShardLink
from collector.aggregator.state.trade_proof import TradeProof
from collector.aggregator.telemetry.activity_meter import Liveliness
from collector.aggregator.telemetry.change_detector import Transitions
from collector.aggregator.telemetry.journal import Entry, Journal
from collector.aggregator.telemetry.latency import Latencies
from collector.aggregator.telemetry.latency_summary import Budgets
from collector.aggregator.telemetry.market_time_series import MarketTimes
from collector.aggregator.telemetry.time_series import Timeline
from collector.aggregator.topic_state import Lane, is_known, is_new_book, unknown
from collector.settings.parts import AggregatorConfig, Steering
from shards.adapters import registry
from shards.protocol import frames
from shards.protocol.chain import Chain
from shards.protocol.channels import OFFERED
from shards.protocol.control import Answer, Report
from shards.protocol.events import Gap
from shards.protocol.frames import (
    BY_ID,
    KEYFRAME,
    KIND_BOOK,
    KIND_GAP,
    KIND_MARKETS,
    KIND_TRADES,
    LATE,
    SNAPSHOT,
    BatchHeader,
    Record,
)
from shards.protocol.settings import CHAIN, Market

log = logging.getLogger(__name__)

OWN_SHARD: Final = 0xFFFF
"""In frames that the aggregator makes itself."""
_BEGUN: Final = frozenset(
    channel.name for channel in OFFERED if channel.is_replayed and not channel.is_chain_wide
)
"""Channels that every market has once it has joined; the others begin with their first frame."""
_AGAIN: Final = 32
"""Blocks that a shard has again whose aggregator died with it; subscribers know them by height.
Enough for the two seconds by which a subscriber's polls lag, on a chain that makes ten a second."""


class Aggregator:
    """Forwards batches; everything else asks it what it knows."""

    def __init__(
        self,
        config: AggregatorConfig,
        publisher: "zmq.Socket[bytes]",
        *,
        saved: Saved | None = None,
        entries: Iterable[Entry] = (),
        publishing: Callable[["zmq.Socket[bytes]", int], Publishing] = Publishing,
    ) -> None:
        """``saved`` and ``entries`` are what a former aggregator left, in this run or before it."""
        saved = saved or Saved()
        # Readers tell aggregators apart by it, also where a clock went back.
        epoch = max(config.epoch, saved.epoch + 1)
        self.config = config = msgspec.structs.replace(config, epoch=epoch)
        self.chain = saved.chain
        """Which chain is collected."""
        self.former = saved.former
        """The ledgers of the chains before it, as they were closed."""
        self.recorder: dict[str, Any] | None = None
        """How the recorder stands, as the coordinator last said; None without one."""
        self.saving = Saving(config.state, time.monotonic())
        if config.begins:
            self.saving.taken_up = begin_run(saved)
        unprovable = registry.adapter(config.source).unprovable
        self.coverage = Coverage(config.markets, saved.markets, provable=not unprovable)
        self._publishing = publishing(publisher, config.epoch)
        self._publishing.begin_anew(config.epoch, self.chain.generation)
        self.history = self._publishing.history
        through = 0 if config.assignment else None
        self.proof = TradeProof(
            every_market=config.every_market, listed_through=through, unprovable=unprovable
        )
        self.journal = Journal(saved=entries)
        self.transitions = Transitions(self.journal, self.coverage)
        self.timeline = Timeline()
        self.market_times = MarketTimes()
        self.liveliness = Liveliness(config.assessed)
        self.links: dict[int, ShardLink] = {}
        self.lanes: dict[str, Lane] = {}
        self._lanes_of: dict[str, list[Lane]] = {}
        self._market_of = {market.symbol: market for market in config.markets}
        self._symbol_of = {market.market_id: market.symbol for market in config.markets}
        self._begun: set[str] = set()
        self._channels = ("gap", *(name for name in config.channels if name in _BEGUN))
        self.ownership = Ownership(
            self.coverage, version=config.epoch, resume_within=config.resume_within
        )
        self.orders = Orders()
        self.revision = config.revision
        """Of the assignment."""
        self.unsaved = False
        """Whether the ledger must be saved before anybody hears from us again."""
        if config.assignment:
            self.ownership.want(config.markets, config.assignment)
            self.ownership.arriving.clear()
        self.latencies = Latencies()
        self.budgets = Budgets()
        self.duplicates = 0
        self.fenced = 0
        """Frames refused: of an older process of a shard, or meant for another aggregator."""
        self._listings = Listings()
        self._told = 0
        """Frames of our own."""
        self.listed(config.markets)

    # ---- the data path --------------------------------------------------------------

    def receive(self, header_part: bytes, records_part: bytes) -> None:
        """Take one batch and publish what is new in it."""
        now = time.time_ns()
        header = frames.decode_header(header_part)
        records = frames.decode_records(records_part)
        link = self.links.get(header.shard)
        if (
            link is None
            or header.epoch != link.epoch
            or header.publisher_epoch != self.config.epoch
        ):
            self.fenced += len(records)
            return
        sequence = header.frame_sequence
        if link.frame_sequence and sequence > link.frame_sequence + 1:
            link.lost += sequence - link.frame_sequence - 1
            link.lost_through = sequence - 1
        link.frames += len(records)
        timed = not header.resent and self.latencies.receive(records, header, sequence, now)
        middle = middle_of(header, now)
        for record in records:
            self._forward(record, header, sequence, middle)
            sequence += 1
        self._publishing.flush()
        link.frame_sequence = sequence - 1
        if timed:
            self.latencies.published(header.shard, now, time.time_ns())
        if link.unaccounted is not None:
            self._account(link)

    def report(self, report: Report, now: float) -> Answer:
        """Take a shard's report and say where the shard stands (``id`` is the caller's to set)."""
        link = self.links.setdefault(report.shard, ShardLink())
        # Both died: what this shard's last process pushed may have died with our former one.
        again = _AGAIN if not link.epoch else 0
        if link.is_replaced(report.epoch, fresh=report.fresh):
            return Answer(id=0, publisher_epoch=self.config.epoch, fenced=True)
        if report.epoch != link.epoch:
            # What an older process still has on its way is fenced from here on.
            link.begin(report.epoch, report.pid)
            self.coverage.fresh(report.shard)
            self.latencies.fresh(report.shard)
            self.ownership.fresh(report.shard)
        self._meet_chain(report)
        is_ours = report.replaces < 0 and report.chain.generation == self.chain.generation
        if not report.fresh and is_ours:
            link.report = report
            link.unaccounted = report
            self._begin_topics(report)
            self.ownership.joined(report)
            self.coverage.report(report, now)
            self.transitions.report(report, now)
            self._account(link)
        answer = Answer(id=0, publisher_epoch=self.config.epoch)
        if report.fresh or not is_ours:
            answer.chain = self.chain
        answer.assignment = self.ownership.assignment(report)
        if report.fresh or answer.assignment is not None:
            answer.resume = self.ownership.resume_points(report.shard, again=again)
        return answer

    def ledger(self) -> Saved:
        """Return what is to be saved."""
        return Saved(
            saved_at=time.time_ns(),
            markets=self.coverage.ledgers(),
            chain=self.chain,
            former=self.former,
            epoch=self.config.epoch,
        )

    def _meet_chain(self, report: Report) -> None:
        """Learn which chain a shard collects; where it took another's place, begin anew with it."""
        chain, ours = report.chain, self.chain.generation
        if report.replaces == ours or (report.replaces < 0 and chain.generation > ours):
            self._begin_chain(chain, report.shard)
        elif report.replaces < 0 and chain.generation == ours and chain.marks:
            self.chain = chain

    def _begin_chain(self, chain: Chain, shard: int) -> None:
        """
        Close the ledger of the chain that is no more, and begin one for another.

        Subscribers see a new publisher epoch, and in every answer the chain's generation.
        """
        former, config = self.chain, self.config
        closed = {"id": former.id, "generation": former.generation, "until": time.time_ns()}
        self.former = [*self.former[-9:], closed | self.coverage.begin_anew()]
        self.chain = chain
        epoch = max(time.time_ns(), config.epoch + 1)
        self.config = msgspec.structs.replace(config, epoch=epoch)
        self._publishing.begin_anew(epoch, chain.generation)
        self.history = self._publishing.history
        self.lanes.clear()
        self._lanes_of.clear()
        self._begun.clear()
        self.proof.begin_anew()
        self.ownership.begin_anew()
        for link in self.links.values():
            link.begin_chain()
        text = f"chain {chain.id} was replaced: it began again, and so does the ledger"
        last = closed.get("last", self.former[-1]["last"])
        reason = f"the one before ended here at block {last}"
        self.journal.add("chain", text, ts=time.time_ns(), shard=shard, reason=reason)
        log.warning("%s; %s", text, reason)
        self.unsaved = True
        self._listings = Listings()
        self.listed(self._market_of.values())

    def _begin_topics(self, report: Report) -> None:
        """Let late joiners see the quiet markets too, and from where on nothing is missing."""
        for market in report.markets:
            owner = self.coverage.owner(market.market_id)
            ours = market.first and owner in (report.shard, UNOWNED)
            if ours and market.market_id not in self._begun:
                self._begun.add(market.market_id)
                complete_from = max(market.first, report.kept_from)
                symbol = self._symbol_of[market.market_id]
                is_chain = market.market_id == CHAIN.market_id
                for channel in ("gap", "blocks") if is_chain else self._channels:
                    self.history.begin(frames.topic(channel, symbol), complete_from)

    def processes(self, pids: Mapping[str, int]) -> None:
        """Hear from the coordinator who lives: a dead shard's last report is worth nothing."""
        for number, link in list(self.links.items()):
            if link.pid and pids.get(f"shard {number}", 0) != link.pid:
                self.coverage.silence(number)
            if f"shard {number}" not in pids and self.ownership.loads().get(number) == 0:
                # Stopped for good: it had nothing left to do.
                del self.links[number]
                self.ownership.stop(number)
                self.transitions.stop(number)
                self.latencies.stop(number)

    def _account(self, link: ShardLink) -> None:
        report = link.unaccounted
        if report is None:
            return
        if link.lost_through and report.frames <= link.lost_through:
            # Made when frames still waited that were dropped since: they are had again.
            link.unaccounted = None
        elif link.frame_sequence >= report.frames or not report.kept:
            link.unaccounted = None
            link.accounted = {market.market_id: market for market in report.markets}
            link.accounts += 1
            link.assignment = report.assignment
            self.coverage.account(report)
            self._change_hands(report)

    def listed(self, markets: Iterable[Market]) -> None:
        """Tell what is new about how the chain lists these markets, if that is collected."""
        if "markets" not in self.config.channels:
            return
        now = time.time_ns()
        for event in self._listings.changed(markets, now):
            name = frames.topic("markets", event.symbol)
            lane = self.lanes.get(name) or self._open_lane(name)
            self._told += 1
            # It belongs to no height: nothing of the topic is ever missing.
            record = Record(name, KIND_MARKETS, SNAPSHOT, 0, 0, 1, 0, now, frames.encode(event))
            middle = frames.middle(now, now, OWN_SHARD, self.config.epoch)
            self._publishing.add(lane, record, middle, self._told)
        self._publishing.flush()

    def statuses(self, statuses: Mapping[str, str]) -> None:
        """Take the markets' statuses as the chain lists them now."""
        self.coverage.statuses(statuses)
        self.listed(
            msgspec.structs.replace(market, status=statuses.get(market.market_id, market.status))
            for market in self._market_of.values()
        )

    def _forward(self, record: Record, header: BatchHeader, sequence: int, middle: bytes) -> None:
        lane = self.lanes.get(record.topic)
        if lane is None:
            lane = self._open_lane(record.topic)
        if lane.shard != header.shard and lane.shard != UNOWNED:
            self._hold_back(lane, record, header, sequence)
            return
        if record.flags & KEYFRAME:
            self._keep_keyframe(lane, record, middle, sequence)
            return
        if record.kind != KIND_BOOK:
            found = self._unpublished(lane, record, header.shard)
            if found is None:
                self.duplicates += 1
                return
            record = found
        elif (
            # Nearly all of what comes: the next change.
            record.sequence > lane.sequence and record.height >= lane.began_at
        ) or is_new_book(lane, record):
            lane.sequence = record.sequence
        else:
            self.duplicates += 1
            return
        self._publishing.add(lane, record, middle, sequence)

    def _unpublished(self, lane: Lane, record: Record, shard: int) -> Record | None:
        """Return what of a record that is no book has not been published; note what it says."""
        if record.kind == KIND_TRADES:
            if record.flags & BY_ID:
                return unknown(lane, record)
            if record.height <= lane.height:
                return None
            self.proof.add(record.height, record.count, record.sequence)
        elif record.kind == KIND_GAP:
            event = frames.decode_gap(record.event)
            self.coverage.gap(event)
            self.transitions.gap(event, shard)
        elif is_known(lane, record):
            return None
        else:
            lane.sequence = record.sequence
        return record

    def _keep_keyframe(self, lane: Lane, record: Record, middle: bytes, sequence: int) -> None:
        """Remember a whole book, or a state, for late joiners; it stands for all up to now."""
        if record.kind == KIND_BOOK:
            if record.sequence < lane.sequence:
                return
        elif is_known(lane, record):
            return
        else:
            lane.height = record.height
        lane.sequence = record.sequence
        self._publishing.keep(lane, record, middle, sequence)

    def _open_lane(self, topic: str) -> Lane:
        channel, _, symbol = topic.partition(".")
        # Prices have symbols of their own, and come with the chain's feed.
        named = CHAIN.symbol if channel == "oracle" else symbol.rstrip(".")
        market = self._market_of.get(named)
        lane = self.lanes[topic] = Lane(topic, market.market_id if market else "")
        lane.shard = self._owner(lane)
        if lane.market_id:
            self._lanes_of.setdefault(lane.market_id, []).append(lane)
        return lane

    # ---- markets that change hands --------------------------------------------------

    def steer(self, steering: Steering) -> None:
        """Take the coordinator's word on where the markets belong."""
        if steering.markets is not None and steering.revision > self.revision:
            self.revision = steering.revision
            self._enter_listings(steering)
            for market in steering.markets:
                self._market_of[market.symbol] = market
                self._symbol_of[market.market_id] = market.symbol
            self.ownership.want(steering.markets, steering.assignment)
            for market_id in self._lanes_of:
                self._own_lanes(market_id)
            self.unsaved = True
        if steering.revision == self.revision:
            self.proof.listed(steering.listed_through, every_market=steering.every_market)
        self.orders.answer(steering.answers)

    def _enter_listings(self, steering: Steering) -> None:
        """Enter into the journal which markets come and go."""
        before, after = self.ownership.wanted, steering.assignment
        changes = (
            ("collected from now on", after.keys() - before.keys(), after),
            ("not collected any more", before.keys() - after.keys(), before),
        )
        symbols = {m.market_id: m.symbol for m in steering.markets or ()} | self._symbol_of
        for text, market_ids, shards in changes:
            for market_id in sorted(market_ids):
                shard, symbol = shards[market_id], symbols[market_id]
                self.journal.note("listing", text, ts=time.time_ns(), shard=shard, symbol=symbol)

    def _own_lanes(self, market_id: str) -> None:
        for lane in self._lanes_of.get(market_id, ()):
            lane.shard = self._owner(lane)

    def _owner(self, lane: Lane) -> int:
        """Say whose frames a lane carries."""
        is_removed = lane.market_id and lane.market_id not in self.coverage.states
        return NOBODY if is_removed else self.coverage.owner(lane.market_id)

    def _change_hands(self, report: Report) -> None:
        """Hand over what is ready for it, and forget what was let go."""
        for market_id in self.ownership.left(report):
            self._announce_end(market_id, self.links[report.shard])
            self.ownership.end(market_id)
            self._own_lanes(market_id)
            self.unsaved = True
        for market_id, join in list(self.ownership.joins.items()):
            owner = self.links.get(self.coverage.owner(market_id))
            newcomer = self.links.get(join.shard)
            # The first report after a restart of ours may be older than the frames it counts.
            if not owner or not newcomer or min(owner.accounts, newcomer.accounts) < 2:
                continue
            if not self.ownership.is_current(join.shard, newcomer.assignment):
                continue
            before, after = owner.accounted.get(market_id), newcomer.accounted.get(market_id)
            book = self.lanes.get(frames.topic("book", self._symbol_of[market_id]))
            sequence = book.sequence if book is not None else 0
            if before and after and self.ownership.ready(market_id, before, after, sequence):
                self._hand_over(market_id, newcomer)

    def _hand_over(self, market_id: str, newcomer: ShardLink) -> None:
        former = self.coverage.owner(market_id)
        join = self.ownership.hand_over(market_id, newcomer.epoch)
        self._own_lanes(market_id)
        self.unsaved = True
        now = time.time_ns()
        for record, header, sequence in join.held:
            # The book that it began with says nothing new.
            if not (record.kind == KIND_BOOK and record.flags & SNAPSHOT and self._has(record)):
                self._forward(record, header, sequence, middle_of(header, now))
        self._publishing.flush()
        if newcomer.report is not None:
            self.coverage.report(newcomer.report, self.coverage.reported_at(join.shard))
        self.journal.note(
            "move",
            f"shard {former} → shard {join.shard}",
            ts=now,
            shard=join.shard,
            symbol=self._symbol_of[market_id],
        )

    def _has(self, book: Record) -> bool:
        """Say whether what was published includes this book already."""
        lane = self.lanes.get(book.topic)
        return lane is not None and book.sequence <= lane.sequence

    def _announce_end(self, market_id: str, link: ShardLink) -> None:
        """Tell subscribers that no block after this one will be had: a gap, until it comes back."""
        state = self.coverage.states[market_id]
        if not state.first:
            return
        ts = max(time.time_ns(), state.gaps.newest + 1)
        gap = Gap(market_id, ts, "open", "removed", state.last + 1, 0, ts, "not collected any more")
        name = frames.topic("gap", self._symbol_of[market_id])
        event = frames.encode(gap)
        record = Record(name, KIND_GAP, LATE, gap.first, ts, 1, 0, ts, event)
        header = BatchHeader(
            frames.VERSION, state.shard, link.epoch, self.config.epoch, 0, ts, False
        )
        self._forward(record, header, link.frame_sequence, middle_of(header, ts))
        self._publishing.flush()

    def _hold_back(self, lane: Lane, record: Record, header: BatchHeader, sequence: int) -> None:
        """Take a frame of a shard that does not own its market: held, or needed no more."""
        join = self.ownership.joins.get(lane.market_id)
        if join is not None and join.shard == header.shard:
            join.hold(record, header, sequence)
        else:
            self.ownership.refuse(lane.market_id, header.shard, record)
            self.duplicates += 1

    # ---- what it knows --------------------------------------------------------------

    @property
    def published(self) -> int:
        """Frames published."""
        return self._publishing.published

    def markets(self) -> Mapping[str, Market]:
        """Return the markets by symbol."""
        return self._market_of

    def counts(self) -> dict[str, dict[str, int]]:
        """Count trades and book updates by market id."""
        counts: dict[str, dict[str, int]] = {}
        for topic, lane in self.lanes.items():
            row = counts.setdefault(lane.market_id, {"trades": 0, "book_updates": 0})
            if topic.startswith("book."):
                row["book_updates"] += lane.count
                row["sequence"] = lane.sequence
            elif topic.startswith("trades."):
                row["trades"] += lane.count
        return counts

    def events(self) -> dict[str, int]:
        """Count trades and book updates together by market id; cheaper than `counts`."""
        events: dict[str, int] = {}
        for lane in self.lanes.values():
            if lane.topic.startswith((b"book.", b"trades.")):
                events[lane.market_id] = events.get(lane.market_id, 0) + lane.count
        return events
