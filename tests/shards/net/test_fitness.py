"""Which node is fit to be asked for what is new: behind, still, catching up, and wrong clocks."""

import pytest

from shards.net.fitness import Progress, Verdict, verdict
from shards.protocol.chain import Mark, NodeView

S = 1_000_000_000
BLOCK_S = 0.5
BEGUN = 1_800_000_000


class Watched:
    """A node that is looked at again and again; its blocks and our clock are made here."""

    def __init__(self, *, clock_off_s: float = 0.0) -> None:
        self.progress = Progress()
        self.now = 1_000.0
        self._clock_off_s = clock_off_s

    def look(
        self, height: int, *, after_s: float = 15.0, head: int = 0, catching_up: bool = False
    ) -> Verdict:
        """Look at it when so much time has gone by; its block times are those of its heights."""
        self.now += after_s
        latest = Mark(height, f"{height}", int((BEGUN + height * BLOCK_S) * S))
        self.progress.saw(latest, self.now)
        view = NodeView("injective-1", latest, Mark(0, "", 0), catching_up)
        ts = int((BEGUN + self.now - 1_000.0 + self._clock_off_s) * S)
        return verdict(view, "", self.progress, max(head, height), self.now, ts)


@pytest.mark.parametrize("clock_off_s", [0.0, 3_600.0, -3_600.0])
def test_a_node_that_follows_its_chain_is_fit_whatever_our_clock_says(clock_off_s: float) -> None:
    node = Watched(clock_off_s=clock_off_s)
    node.look(30)
    for looks in range(2, 10):
        assert node.look(30 * looks) == Verdict(None, "")


@pytest.mark.parametrize("clock_off_s", [0.0, 3_600.0, -3_600.0])
def test_a_node_that_stands_still_is_not_fit_whatever_our_clock_says(clock_off_s: float) -> None:
    node = Watched(clock_off_s=clock_off_s)
    for looks in range(1, 4):
        node.look(30 * looks)
    for _ in range(2):
        assert node.look(90).is_fit
    assert node.look(90) == Verdict("still", "no new block for 45 s")
    node.look(240)
    assert node.look(270).is_fit


def test_a_node_that_is_behind_is_not_fit() -> None:
    assert Watched().look(30, head=33) == Verdict("behind", "3 blocks behind")
    assert Watched().look(30, head=32).is_fit


def test_a_node_that_says_that_it_is_catching_up_is_not_fit() -> None:
    assert Watched().look(30, catching_up=True).cause == "catching_up"


def test_a_node_whose_newest_block_is_old_is_not_fit_until_it_follows_its_chain() -> None:
    node = Watched(clock_off_s=600.0)
    found = node.look(30)
    assert (found.cause, found.is_fit) == ("old", False)
    # Blocks of the past come faster than they were made.
    assert node.look(500).cause == "catching_up"
    assert node.look(1_000).cause == "catching_up"
    assert node.look(1_030).is_fit
