"""A market that is listed while several cells are read, which begin it at different heights."""

import pytest

from collector.client.cells.arbiter import Arbiter
from collector.client.received import Lost
from collector.client.topic_filter import Wanted
from collector.client.topic_sync import Inbox
from shards.protocol.events import Trades
from tests.collector.client.scripted_publisher import Script, trades

OLD, NEW = "INJ-USDT", "NEW-USDT"
TOPIC = f"trades.{NEW}."
SOURCE = "chain-ws"


class Listing:
    """Some cells that have one market, and a reader that has joined all of them."""

    def __init__(self, cells: int = 2) -> None:
        self.scripts = [Script(epoch, head=100) for epoch in range(1, cells + 1)]
        for script in self.scripts:
            script.history.begin(f"trades.{OLD}.", 101)
        self.inboxes = [Inbox(Wanted("*", ["trades"]), beginnings=True) for _ in self.scripts]
        named = [(str(n), inbox) for n, inbox in enumerate(self.inboxes)]
        self.arbiter = Arbiter(named, ["trades"])
        self.now = 0.0
        self.turn(2)

    def begin(self, number: int, first: int) -> None:
        """A cell begins the new market with a block."""
        self.scripts[number].history.begin(TOPIC, first)

    def block(self, number: int, *heights: int) -> None:
        """A cell publishes the new market's trades of some blocks, and the reader hears them."""
        for height in heights:
            frame = self.scripts[number].publish(NEW, trades(NEW, height))
            self.scripts[number].head = height
            self.inboxes[number].receive(*frame, 7)
        self.arbiter.turn(self.now)

    def turn(
        self, times: int = 1, *, answering: tuple[int, ...] = (0, 1, 2), seconds: float = 1.0
    ) -> None:
        """Let seconds pass; some cells' answers come, those of the others stay on their way."""
        for _ in range(times):
            self.now += seconds
            for n, (script, inbox) in enumerate(zip(self.scripts, self.inboxes, strict=True)):
                inbox.tick(self.now)
                while inbox.requests and n in answering:
                    inbox.reply(script.answer(inbox.requests.popleft()), 7)
            self.arbiter.turn(self.now)

    def told(self) -> list[int | tuple[int, int]]:
        events = [r.event for r in self.arbiter.ready if r.topic == TOPIC]
        self.arbiter.ready.clear()
        return [
            event.height if isinstance(event, Trades) else (event.first, event.last)
            for event in events
            if isinstance(event, Trades | Lost)
        ]


def test_what_a_cell_that_lags_began_earlier_is_delivered_first() -> None:
    listing = Listing()
    listing.begin(0, 110)
    listing.begin(1, 113)
    listing.block(1, 113, 114)
    # The replay that tells from where on this cell has it; the other one's line is slow.
    listing.turn(2, answering=(1,))
    listing.block(0, 110, 111, 112)
    listing.turn(2)
    listing.block(0, 113, 114)
    listing.turn(2)
    assert listing.told() == [110, 111, 112, 113, 114]


def test_what_comes_too_late_to_be_delivered_in_order_is_named() -> None:
    listing = Listing()
    listing.begin(1, 113)
    listing.block(1, 113, 114)
    # The other cell answers that it has no such market; it has begun it at an earlier block.
    listing.turn(3)
    assert listing.told() == [113, 114]
    listing.begin(0, 110)
    listing.block(0, 110, 112, 113)
    listing.turn(3)
    assert listing.told() == [(110, 110), (112, 112)]
    listing.block(1, 115)
    listing.block(0, 114, 115, 116)
    listing.turn(3)
    assert listing.told() == [115, 116]


def test_nothing_is_named_as_lost_that_a_cell_is_about_to_send() -> None:
    """What a cell offers is known from its last answer, and that was before the market was."""
    listing = Listing()
    listing.begin(0, 110)
    listing.begin(1, 113)
    # Where they begin is told before the next poll is due.
    for number, height in ((0, 110), (1, 113)):
        listing.block(number, height)
        listing.turn(2, seconds=0.1)
    listing.block(0, 111, 112, 113)
    listing.block(1, 114)
    listing.turn(3)
    assert listing.told() == [110, 111, 112, 113, 114]


@pytest.mark.parametrize("number", [0, 1])
def test_a_cell_that_answers_no_more_is_not_waited_for(number: int) -> None:
    listing = Listing()
    listing.begin(number, 110)
    listing.block(number, 110, 111)
    listing.turn(5, answering=(number,))
    assert listing.told() == [110, 111]
