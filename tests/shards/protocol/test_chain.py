"""Which chain a node has: what speaks against it, and what must not."""

import pytest

from shards.protocol.chain import Chain, Mark, NodeView

SECOND = 1_000_000_000


def block(height: int, chain: str = "a", *, begun_s: int = 0) -> Mark:
    return Mark(height, f"{chain}{height}", (begun_s + height) * SECOND)


UNTOLD = Mark(0, "", 0)


def view(latest: Mark, *, earliest: Mark = UNTOLD, network: str = "injective-1") -> NodeView:
    return NodeView(network, latest, earliest, False)


KNOWN = Chain().learned(view(block(500), earliest=block(1)))


def test_a_chain_is_remembered_by_its_id_its_first_block_and_its_newest() -> None:
    assert KNOWN.id == "injective-1"
    assert KNOWN.marks == (block(1), block(500))
    later = KNOWN
    for height in (550, 600, 700, 800, 900):
        later = later.learned(view(block(height)))
    assert [mark.height for mark in later.marks] == [1, 700, 800, 900]


@pytest.mark.parametrize(
    "shown",
    [
        view(block(500)),
        view(block(501)),
        view(block(499)),
        view(block(3)),
        view(block(9_000), earliest=block(8_000)),
    ],
    ids=["at it", "ahead", "behind", "far behind", "pruned"],
)
def test_a_node_of_the_chain_is_not_suspected(shown: NodeView) -> None:
    assert KNOWN.contradiction(shown) == ""


@pytest.mark.parametrize(
    ("shown", "why"),
    [
        (view(block(9_000), network="injective-888"), "network injective-888"),
        (view(block(3, "b", begun_s=1_000), earliest=block(1, "b", begun_s=1_000)), "another hash"),
        (view(block(400, "b", begun_s=1_000)), "later than"),
        (view(block(500, "b")), "another hash"),
    ],
    ids=["network", "first block", "time", "same height"],
)
def test_a_node_of_another_chain_is_known_by_what_it_shows(shown: NodeView, why: str) -> None:
    assert why in KNOWN.contradiction(shown)


def test_a_longer_chain_is_known_by_a_block_that_both_have() -> None:
    longer = view(block(9_000, "b", begun_s=1_000), earliest=block(400, "b", begun_s=1_000))
    assert KNOWN.contradiction(longer) == ""
    assert "another hash" in KNOWN.contradiction(longer, Mark(500, "b500", 0))
