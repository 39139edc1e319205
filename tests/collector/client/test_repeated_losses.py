"""Losses of several cells over and over: each is named once, and none is remembered for ever."""

from collections.abc import Iterable

import msgspec
import pytest

from collector import Lost, Subscriber, Trades
from collector.aggregator.replay_buffer import ReplayBuffer
from collector.client.cells.arbiter import Arbiter
from collector.client.received import ChainReplaced
from collector.client.topic_filter import Wanted
from collector.client.topic_sync import Inbox
from tests.collector.client.scripted_publisher import Script, publishing, trades
from tests.collector.client.test_cells import beginning, joined_all
from tests.collector.client.test_subscriber import INJ, until

TOPIC = f"trades.{INJ}."
SOURCES = ["chain-ws", "indexer-grpc"]
KEPT = 3
"""Frames that a cell keeps of a topic."""
ROUNDS = 40
ROUND = 100
"""Blocks: of a reader's 1,024 newest, in which trades may come late, a few rounds are part."""
MOST = 1_024 // ROUND + 2


class Lossy:
    """Some cells of one chain, each on a line of its own, and a reader of all of them."""

    def __init__(self, source: str, cells: int = 2) -> None:
        self.source = source
        self.scripts = [self._script(epoch) for epoch in range(1, cells + 1)]
        self.inboxes = [Inbox(Wanted("*", ["trades"]), beginnings=True) for _ in self.scripts]
        named = [(str(n), inbox) for n, inbox in enumerate(self.inboxes)]
        self.arbiter = Arbiter(named, ["trades"])
        self.now, self.height = 0.0, 100
        self.silent: set[int] = set()
        self.turn(2)

    def _script(self, epoch: int, chain: int = 0, head: int = 100) -> Script:
        script = Script(epoch, ReplayBuffer(KEPT), head=head)
        script.history.chain = chain
        script.history.begin(TOPIC, head + 1)
        return script

    def replace_chain(self, number: int, head: int, chain: int = 9) -> None:
        """A cell publishes another chain, from a height on."""
        self.scripts[number] = self._script(100 + number, chain, head)
        self.height = head

    def turn(self, times: int = 1) -> None:
        for _ in range(times):
            self.now += 1.0
            for n, (script, inbox) in enumerate(zip(self.scripts, self.inboxes, strict=True)):
                inbox.tick(self.now)
                while inbox.requests:
                    answer = script.answer(inbox.requests.popleft())
                    if n not in self.silent:
                        inbox.reply(answer, 7)
            self.arbiter.turn(self.now)

    def block(self, *heard_by: int, height: int = 0) -> None:
        """Make the next block, or one of this height, which reaches the reader from some cells only."""
        self.height = height or self.height + 1
        fills = msgspec.structs.replace(trades(INJ, self.height), source=self.source)
        for n, (script, inbox) in enumerate(zip(self.scripts, self.inboxes, strict=True)):
            frame = script.publish(INJ, fills)
            script.head = self.height
            if n in heard_by:
                inbox.receive(*frame, 7)

    def lose(self, *heard_by: int, blocks: int = 8) -> None:
        """Publish blocks that some cells have forgotten when the reader asks them."""
        for _ in range(blocks):
            self.block(*heard_by)
        # Two polls, and the patience of a merge.
        self.turn(14)

    def told(self) -> list[int | tuple[int, int] | ChainReplaced]:
        """Return the heights that came, the ranges that were lost, and that chains were replaced."""
        events = [r.event for r in self.arbiter.ready]
        self.arbiter.ready.clear()
        return [
            e.height if isinstance(e, Trades) else (e.first, e.last) if isinstance(e, Lost) else e
            for e in events
            if isinstance(e, Trades | Lost | ChainReplaced)
        ]

    def remembered(self) -> int:
        """Return how many ranges of losses the reader remembers, of the cell with the most."""
        return max(len(list(side.lost)) for side in self.arbiter._merges[TOPIC].sides)


def lost(told: Iterable[object]) -> list[tuple[int, int]]:
    return [one for one in told if isinstance(one, tuple)]


@pytest.mark.parametrize("source", SOURCES)
def test_what_all_cells_lost_is_named_once(source: str) -> None:
    lossy, due = Lossy(source), []
    for n in range(1, ROUNDS):
        lossy.block(0, 1, height=n * ROUND + 1)
        lossy.turn()
        lossy.lose()
        due.append((n * ROUND + 2, n * ROUND + 9 - KEPT))
        assert lossy.remembered() <= MOST
    assert lost(lossy.told()) == due


@pytest.mark.parametrize("source", SOURCES)
def test_what_one_cell_lost_is_not_named_and_is_forgotten(source: str) -> None:
    lossy, heights = Lossy(source), list[int]()
    for n in range(1, ROUNDS):
        lossy.block(0, 1, height=n * ROUND + 1)
        lossy.turn()
        lossy.lose(n % 2)
        heights += range(n * ROUND + 1, n * ROUND + 10)
        assert lossy.remembered() <= MOST
    assert lossy.told() == heights


@pytest.mark.parametrize("source", SOURCES)
def test_a_cell_that_comes_back_and_lost_all_since_names_nothing_again(source: str) -> None:
    lossy = Lossy(source)
    lossy.block(0, 1)
    lossy.turn()
    lossy.silent = {1}
    for n in range(2, 6):
        lossy.block(0, height=n * ROUND)
        lossy.turn()
        lossy.lose()
    named = [(n * ROUND + 1, n * ROUND + 8 - KEPT) for n in range(2, 6)]
    assert lost(lossy.told()) == named
    lossy.silent = set()
    lossy.turn(14)
    lossy.block(0, 1)
    lossy.turn(2)
    assert lost(lossy.told()) == []


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("later", [False, True], ids=["both at once", "one later"])
def test_losses_on_a_chain_that_begins_low_are_named_once(source: str, later: bool) -> None:
    """The heights of the former chain are higher than all of the new one's."""
    lossy = Lossy(source)
    lossy.block(0, 1, height=100_000)
    lossy.turn()
    lossy.lose()
    told = lossy.told()
    assert lost(told) == [(100_001, 100_005)]
    assert set(told) - {*lost(told)} == {100_000, 100_006, 100_007, 100_008}
    lossy.replace_chain(0, 0)
    if not later:
        lossy.replace_chain(1, 0)
    lossy.turn(2)
    if later:
        lossy.block(0)
        lossy.turn(2)
        lossy.replace_chain(1, 1)
        lossy.turn(2)
    begun = lossy.height
    lossy.block(0, 1)
    lossy.turn(2)
    for _ in range(2):
        lossy.lose()
    replaced, *after = lossy.told()
    assert isinstance(replaced, ChainReplaced)
    first, second = begun + 2, begun + 10
    named = [(first, first + 7 - KEPT), (second, second + 7 - KEPT)]
    assert lost(after) == named
    came = {one for one in after if isinstance(one, int)}
    missing = {height for low, high in named for height in range(low, high + 1)}
    assert came == set(range(1, begun + 18)) - missing
    assert lossy.remembered() <= MOST


@pytest.mark.parametrize("source", SOURCES)
def test_the_former_chains_heights_of_a_cell_that_has_not_begun_hide_no_loss(source: str) -> None:
    lossy = Lossy(source)
    lossy.block(0, 1, height=100_000)
    lossy.turn(2)
    lossy.replace_chain(0, 0)
    starting = lossy.scripts[1] = Script(9, ReplayBuffer(KEPT))
    starting.history.chain = 9
    lossy.turn(2)
    for height in range(1, 9):
        fills = msgspec.structs.replace(trades(INJ, height), source=source)
        frame = lossy.scripts[0].publish(INJ, fills)
        lossy.scripts[0].head = starting.head = height
        if height == 1:
            lossy.inboxes[0].receive(*frame, 7)
    lossy.turn(14)
    assert lossy.arbiter.cells[1].answers
    assert lost(lossy.told()) == [(2, 5)]
    assert [position.complete for position in lossy.arbiter.positions()] == [8]


@pytest.mark.parametrize("source", SOURCES)
def test_a_cell_that_joins_late_names_nothing_again(source: str) -> None:
    lossy = Lossy(source)
    lossy.block(0, 1)
    lossy.turn()
    lossy.lose()
    assert lost(lossy.told()) == [(102, 106)]
    script = lossy._script(9, head=lossy.height)
    lossy.scripts.append(script)
    lossy.inboxes.append(Inbox(Wanted("*", ["trades"]), beginnings=True))
    lossy.arbiter.add("late", lossy.inboxes[-1])
    lossy.turn(2)
    lossy.lose()
    assert lost(lossy.told()) == [(110, 114)]
    lossy.lose(2)
    lossy.block(0, 1, 2)
    lossy.turn(2)
    assert lost(lossy.told()) == []


def test_over_sockets_each_loss_is_named_once() -> None:
    scripts = [Script(epoch, ReplayBuffer(KEPT)) for epoch in (1, 2)]
    named: list[tuple[int, int]] = []
    with (
        publishing(scripts[0]) as one,
        publishing(scripts[1]) as other,
        Subscriber([one.endpoint, other.endpoint], markets=[INJ]) as subscriber,
    ):
        for publisher in (one, other):
            beginning(publisher)
        joined_all(subscriber, one, other)
        for first in (101, 121, 141, 161):
            for height in range(first, first + 9):
                event = msgspec.structs.replace(trades(INJ, height), source="indexer-grpc")
                for publisher in (one, other):
                    is_heard = height in (first, first + 8)
                    (publisher.send if is_heard else publisher.drop)(INJ, event)
                    publisher.script.head = height
            out = until(subscriber, lambda r: isinstance(r.event, Lost), 30)
            named += [(e.first, e.last) for r in out if isinstance(e := r.event, Lost)]
    assert named == [(first + 1, first + 8 - KEPT) for first in (101, 121, 141, 161)]
