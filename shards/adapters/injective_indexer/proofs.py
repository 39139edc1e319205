"""
Liveness by probe and audit, for all markets of a shard that reads the indexer.

A probe shows the sequences of the indexer's books, an audit lists its trades (proof_track.py). No
I/O, no clock, no log.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from shards.adapters.injective_indexer.decoder import PARTS, StreamMessage
from shards.adapters.injective_indexer.proof_track import Bounds, ProofTrack
from shards.adapters.injective_indexer.reader import Garbled, Probed, Reader
from shards.core.feed import Feed
from shards.core.liveness import Liveness
from shards.protocol.chain import SAME_NS
from shards.protocol.settings import Limits, Market

_SECOND = 1_000_000_000


class Proofs(Liveness):
    """The results of probes and audits, for all markets of one shard."""

    parts = PARTS

    def __init__(
        self, messages: Mapping[bool, Any], *, channels: Sequence[str], limits: Limits
    ) -> None:
        """``messages`` are the messages of the spot (True) and derivative service."""
        super().__init__()
        self.reader = Reader(messages, channels)
        self._bounds = Bounds(
            grace=int(limits.probe_grace_s * _SECOND),
            hold=int(limits.trade_hold_s * _SECOND),
            fresh=int(limits.fresh_s * _SECOND),
            back=int(limits.audit_back_s * _SECOND),
        )
        self._markets: dict[str, Market] = {}
        self._feeds: dict[str, Feed] = {}
        self.tracks: dict[str, ProofTrack] = {}
        self._is_trusting = False
        """Whether contradictions between blocks are ignored, after a false alarm."""
        self._timed = (0, 0)
        """Height and time of the highest block whose time was named."""

    # ---- which markets --------------------------------------------------------------

    def track(self, feed: Feed, market: Market) -> ProofTrack:
        """Create the track of a feed."""
        made = self.tracks[market.market_id] = ProofTrack(
            feed, market, self.reader, self.head, self._bounds
        )
        self._markets[market.market_id] = market
        self._feeds[market.market_id] = feed
        return made

    def forget(self, market_id: str) -> None:
        """A market was removed."""
        del self.tracks[market_id], self._markets[market_id], self._feeds[market_id]
        if not self.tracks:
            # Another chain may follow.
            self._timed = (0, 0)

    # ---- payloads -------------------------------------------------------------------

    def hear(self, feeds: Iterable[Feed], message: object, ts_recv: int) -> bool:
        """Take a message of a stream or a probe."""
        if type(message) is StreamMessage:
            self.name(message.height, message.ts_event, ts_recv)
            if self.head.suspect:
                return True
            for feed in feeds:
                self.tracks[feed.market_id].hear(message, ts_recv)
            return True
        if type(message) is Probed:
            if self.head.suspect:
                return True
            for seen in message.books:
                self.name(seen.height, 0, ts_recv)
                track = self.tracks.get(seen.market_id)
                if track is not None:
                    track.probed(seen.sequence, ts_recv)
            return True
        if type(message) is not Garbled:
            return False
        heard = False
        for feed in feeds:
            heard = True
            self.tracks[feed.market_id].lose("garbage", ts_recv, message.reason)
            feed.builder.want_subscription(feed.market_id)
        # This probe proves nothing; the next one will.
        return heard

    def trust(self, is_trusting: bool) -> None:
        """Ignore contradictions between blocks, or no longer; those named before are forgotten."""
        if is_trusting != self._is_trusting:
            # One of them had a wrong time, and would contradict all that follow.
            self._is_trusting, self._timed = is_trusting, (0, 0)

    def name(self, height: int, ts_event: int, ts_recv: int) -> None:
        """Note that a height was named; suspect the chain if it contradicts an earlier one."""
        if ts_event and height and not self._is_trusting:
            newest, at = self._timed
            if (height < newest and ts_event > at) or (height > newest and ts_event + SAME_NS < at):
                self.head.suspect = height
                return
            if height > newest:
                self._timed = height, ts_event
        if height > self.head.height:
            self.advance(height, ts_event, ts_recv)

    # ---- audits ---------------------------------------------------------------------

    def unanchored(self, market_ids: Iterable[str]) -> list[str]:
        """Return the markets whose trades have no baseline yet."""
        return [n for n in self._ours(market_ids) if not self._feeds[n].ledger.audited_to]

    def anchored(self, market_ids: Iterable[str], newest: int) -> None:
        """Set the baseline of these markets: the newest listed trade's instant."""
        for name in self._ours(market_ids):
            self.tracks[name].anchored(newest)

    def wants_audit(self, market_ids: Iterable[str]) -> bool:
        """Return whether one of these markets waits for its trades to be compared."""
        return any(self.tracks[name].wants_audit for name in self._ours(market_ids))

    def audit_from(self, market_ids: Iterable[str]) -> int:
        """Return the instant from which the trades of these markets must be listed."""
        audited = (self._feeds[name].ledger.audited_to for name in self._ours(market_ids))
        return max(0, min(audited, default=0) - self._bounds.back)

    def audited(
        self, market_ids: Iterable[str], messages: Iterable[Any], begun: int, ts: int
    ) -> None:
        """
        Compare the received trades with all trades that the indexer lists for these markets.

        Raises:
            DecodeError: If one of the messages is not a trade.

        """
        listed: dict[str, list[StreamMessage]] = {name: [] for name in self._ours(market_ids)}
        newest = 0
        for message in messages:
            market = self._markets.get(message.market_id)
            if market is None or market.market_id not in listed:
                continue
            told = self.reader.past_trade(message, market)
            listed[market.market_id].append(told)
            newest = max(newest, told.ts_event)
            self.name(told.height, told.ts_event, ts)
        if self.head.suspect:
            # These trades may be another chain's (chain_watch.py).
            return
        for name, of_market in listed.items():
            self.tracks[name].audited(of_market, newest, begun, ts)

    def _ours(self, market_ids: Iterable[str]) -> list[str]:
        """Omit markets that were removed in the meantime."""
        return [name for name in market_ids if name in self.tracks]

    # ---- time -----------------------------------------------------------------------

    def clock_set(self, now: int) -> None:
        """The wall clock was set: measure everything from now on (ns)."""
        for track in self.tracks.values():
            track.clock_set(now)

    def tick(self, now: int) -> None:
        """Advance the time of every market."""
        for track in self.tracks.values():
            track.tick(now)
