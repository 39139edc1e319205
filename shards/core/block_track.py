"""
One market of a block-based source: every block has a height, one above its predecessor's.

If the height jumps, blocks were lost: later blocks are held, the lost ones are fetched and
published in order, then the held ones. The source sends empty blocks too.

::

    receive(block) ─► follows? ──────────────────────────────────────────► feed.publish
                          jumps?   ─► hold ─► request replay ─► replay(block) ─┘
"""

from collections.abc import Sequence

from shards.core.feed import Feed
from shards.core.states import State, Stimulus
from shards.core.track import Track
from shards.protocol import gap_details
from shards.protocol.events import REPLAY, Block, Cause, Gap, Snapshot, Source
from shards.protocol.frames import KEYFRAME, KIND_BOOK, SNAPSHOT, Record


class BlockTrack(Track):
    """Which blocks of one market are published, held, or lost."""

    def __init__(self, feed: Feed, *, held: int, replayed: int, with_extras: bool) -> None:
        """
        Args:
            held: Maximum lag (blocks) at which live blocks are still held.
            replayed: Most lost blocks to fetch; the rest of a larger gap is given up.
            with_extras: Whether a block restored without optional events (trades only) counts
                as missing, because this feed publishes those events.

        """
        self._feed = feed
        self.ledger = feed.ledger
        self._held_limit = held
        self._replay_limit = replayed
        self._with_extras = with_extras
        self._flows = False
        """Fast check for the data path: live, and no replay is running."""
        self._replay_to = 0
        self.heard_at = 0
        """When this subscription was last active, in ns like ``ts_recv``; 0: none."""
        self.is_confirmed = False
        self._was_published = False
        """Whether the book was published before, here or by an earlier process."""
        self._first_book = -1
        """Sequence of the whole book that was published first; -1: an earlier process did that."""
        self._postpones_book = False
        self.waiting: list[tuple[Block, int]] = []
        """Blocks held until earlier ones are replayed, with their ``ts_recv``."""
        self._shown = 0
        """Newest height received after a gap, held or not."""

    def moved(self) -> None:
        """The feed's state has changed, or what is replayed."""
        feed = self._feed
        self._flows = feed.state is State.LIVE and not self._replay_to
        feed.builder.moved.add(feed.market_id)

    @property
    def is_steady(self) -> bool:  # type: ignore[override]
        """Whether it is live, and nothing is outstanding, the book included."""
        return self._flows and self._feed.sync.in_sync

    @property
    def is_complete(self) -> bool:
        """Whether no block is outstanding."""
        return not self._replay_to

    @property
    def held(self) -> int:  # type: ignore[override]
        """Blocks held until earlier ones are replayed."""
        return len(self.waiting)

    @property
    def replay_to(self) -> int:
        """Last height of the running replay; 0 if none is running."""
        return self._replay_to

    @replay_to.setter
    def replay_to(self, height: int) -> None:
        self._replay_to = height
        self.moved()

    # ---- what the subscription says -------------------------------------------------

    def subscribed(self, subscription: int, ts: int) -> None:
        """The subscription is being requested: its silence is measured from here."""
        self.heard_at = ts
        self.is_confirmed = False

    def confirmed(self, subscription: int, ts: int) -> None:
        """The source accepted the subscription; the next block will show what was missed."""
        self.is_confirmed = True
        # We have earlier blocks: only the next one shows what was missed in between.
        again = self.ledger.first
        self._feed.on(Stimulus.ACCEPTED_AGAIN if again else Stimulus.ACCEPTED)

    def refused(self) -> None:
        """Stop measuring silence: there is no subscription."""
        self.heard_at = 0

    def resume(self, ts: int, gap: Gap | None) -> None:
        """Resume a market whose ledger another process left at ``ledger.last``, with its gap."""
        feed, last = self._feed, self.ledger.last
        self._was_published = True
        feed.gaps.adopt(gap, last + 1, ts)
        self._lose_book(last)
        feed.want_book(last)

    def lose(self, cause: Cause, ts: int, reason: str = "") -> None:
        """The subscription ended (cut, silent); the next block will show what was missed."""
        self._feed.on(Stimulus.LOST, reason or cause)
        self.heard_at = 0
        if self.ledger.first:
            self._feed.gaps.open(cause, self.ledger.last + 1, ts)

    def rewind(self, height: int, records: Sequence[Record], ts: int) -> None:
        """
        Frames from ``height`` on never left the process: replay those blocks.

        A height above the newest block means that only the book was affected.
        """
        feed, ledger = self._feed, self.ledger
        if not ledger.first:
            return
        height = max(ledger.first, min(height, ledger.last + 1))
        if any(map(self._is_first_book, records)):
            # It stood for the changes before it, too: all of them wait for another one.
            height, self._was_published = ledger.first, False
        self._lose_book(height - 1)
        feed.sync.rewind(height - 1)
        feed.want_book(height - 1)
        feed.gaps.open("drop", height, ts)
        feed.gaps.widen(height, ts, gap_details.FRAMES_DROPPED)
        if height <= ledger.last:
            last = max(ledger.last, self._replay_to)
            self.waiting.clear()
            ledger.rewind(height - 1)
            self._replay(last, ts)
        else:
            feed.on(Stimulus.INCOMPLETE, "the book was not delivered")

    def _is_first_book(self, record: Record) -> bool:
        is_whole = record.kind == KIND_BOOK and record.flags & (SNAPSHOT | KEYFRAME) == SNAPSHOT
        return is_whole and record.sequence == self._first_book

    # ---- blocks ---------------------------------------------------------------------

    def receive(self, block: Block, ts_recv: int) -> None:
        """Take a live block of this market's subscription."""
        ledger = self.ledger
        height = block.height
        if self._flows and height == ledger.last + 1:
            self.heard_at = ts_recv
            ledger.last = height
            if block.updates or block.trades or block.extras is not None:
                self._feed.publish(block, ts_recv, self._feed.source)
            return
        self._receive_other_block(block, ts_recv)

    def _receive_other_block(self, block: Block, ts_recv: int) -> None:
        ledger, feed = self.ledger, self._feed
        height = block.height
        if not ledger.first:
            ledger.begin(height)
            feed.sync.lose(observed_from=height)
            feed.want_book()
        if height <= ledger.last or height <= self._shown:
            # Not a sign of activity: a server may repeat its last block forever.
            feed.stats.duplicates += 1
            return
        self.heard_at = ts_recv
        feed.on(Stimulus.SERVED)
        if self._replay_to or height > ledger.last + 1:
            self._shown = height
            self._hold(block, ts_recv)
            return
        ledger.last = height
        self._publish(block, ts_recv, feed.source)
        feed.try_going_live(ts_recv)

    def _publish(self, block: Block, ts_recv: int, source: Source, late: bool = False) -> None:
        self._feed.publish(block, ts_recv, source, late)

    def replay(self, block: Block, ts_recv: int) -> None:
        """Take the lost block that is due next, ``ledger.last + 1``."""
        ledger = self.ledger
        ledger.last = block.height
        is_whole = block.has_books or not self._with_extras
        (ledger.replayed if is_whole else ledger.missing).add(block.height)
        self._publish(block, ts_recv, REPLAY, late=True)
        if not block.has_books:
            self._lose_changes(block.height)
        self._replayed(ts_recv)

    def give_up(self, to: int, ts: int) -> None:
        """No source has the blocks due next, up to ``to``: count them missing and continue."""
        self.ledger.missing.add(self.ledger.last + 1, to)
        self.ledger.last = to
        self._lose_changes(to)
        self._replayed(ts)

    def _lose_changes(self, to: int) -> None:
        """No source has the book's changes up to this block."""
        if not self._feed.sync.includes(to):
            self._lose_book(to)
            self._postpones_book = self._was_published

    def _lose_book(self, to: int) -> None:
        """The book is not known after this block; its changes after that are."""
        self._postpones_book = False
        self._feed.sync.lose(observed_from=to + 1, passes_on=self._was_published)

    @property
    def postpones_book(self) -> bool:  # type: ignore[override]
        """Whether no server has a book so old, and newer ones include changes not replayed yet."""
        return self._postpones_book and self._replay_to > 0

    def postpone_book(self) -> None:
        """No server has the book of the requested height."""
        self._postpones_book = self._feed.sync.passes_on

    def _replay(self, to: int, ts: int) -> None:
        feed = self._feed
        feed.gaps.open("height", self.ledger.last + 1, ts)
        self.replay_to = to
        feed.on(Stimulus.INCOMPLETE, "replaying lost blocks")
        excess = to - self.ledger.last - self._replay_limit
        if excess > 0:
            self.give_up(self.ledger.last + excess, ts)
        feed.builder.want_replay()

    def _replayed(self, ts: int) -> None:
        """After each replayed or missing height: is the gap filled? Publish the held blocks."""
        if self.ledger.last < self._replay_to:
            return
        self.replay_to = 0
        self._feed.want_book(self.ledger.last if self._feed.sync.passes_on else 0)
        held, self.waiting = self.waiting, []
        for block, ts_recv in held:
            self._take_held(block, ts_recv)
        if not self._replay_to and self._shown > self.ledger.last:
            # Received in the meantime, but dropped.
            self._replay(self._shown, ts)
        self._feed.try_going_live(ts)

    def _take_held(self, block: Block, ts_recv: int) -> None:
        if self._replay_to or block.height > self.ledger.last + 1:
            self._hold(block, ts_recv)
        elif block.height == self.ledger.last + 1:
            self.ledger.last = block.height
            self._publish(block, ts_recv, self._feed.source, late=True)

    def _hold(self, block: Block, ts_recv: int) -> None:
        """
        Hold a block until its predecessors are there.

        If the hole exceeds the limit, drop the block; it is replayed later.
        """
        self.waiting.append((block, ts_recv))
        if not self._replay_to:
            # This may give up the oldest blocks and move ``ledger.last``: check the limit after it.
            self._replay(block.height - 1, ts_recv)
        if block.height - self.ledger.last > self._held_limit:
            self.waiting.clear()

    def may_join(self, snapshot: Snapshot, ts: int) -> bool:
        """Return whether all changes up to a snapshot are published, if they are passed on."""
        sync, last = self._feed.sync, self.ledger.last
        return not sync.is_ahead(snapshot, last, is_complete=self.is_complete)

    def joined(self, before: int, snapshot: Snapshot, ts: int) -> None:
        """The book has joined: nothing may be outstanding any more."""
        if not self._was_published:
            self._first_book = snapshot.sequence
        self._was_published = True
        self._feed.try_going_live(ts)

    def went_live(self, ts: int) -> None:
        """Close the gap, or leave it open with the blocks that no source has."""
        gaps, ledger = self._feed.gaps, self.ledger
        if gaps.current is None:
            return
        # By ranges: after a gap of thousands of blocks all markets pass here in one call.
        lost = gaps.uncollected(ledger.first)
        if lost := [*lost, *ledger.missing.within(gaps.current.first, ledger.last)]:
            count = sum(last - first + 1 for first, last in lost)
            gaps.leave_open(lost[0][0], lost[-1][1], ts, gap_details.blocks_not_available(count))
        else:
            gaps.close(ledger.last, ts)
