"""Whether an indexer shows our chain: by the trades that it lists."""

import pytest

from shards.adapters.injective_indexer.shown_chain import ShownChain
from shards.protocol.chain import Mark

SECOND = 1_000_000_000


def block(height: int, *, begun_s: int = 1_000) -> Mark:
    return Mark(height, "", (begun_s + height) * SECOND)


def known(*heights: int) -> ShownChain:
    shown = ShownChain()
    for height in heights:
        shown.learn([block(height)])
    return shown


OURS = known(500, 510, 520)
LOWER = [block(height, begun_s=9_000) for height in (14, 12, 11)]
HIGHER = [block(9_000, begun_s=9_000)]


@pytest.mark.parametrize(
    ("listed", "has_ours", "kind", "why"),
    [
        ([block(530), block(520)], True, "ours", ""),
        ([block(505)], True, "ours", ""),
        # One trade with a wrong time; and one more, beside later trades of ours.
        ([block(300, begun_s=9_000), block(520)], True, "ours", ""),
        ([block(300, begun_s=9_000), block(301, begun_s=9_000), block(530)], True, "ours", ""),
        (LOWER, False, "foreign", "its block 14 is later than our block 520"),
        # Its list of the former chain was kept.
        ([*LOWER, block(520), block(510)], True, "foreign", "later than our block 520"),
        ([Mark(600, "", 400 * SECOND)], False, "foreign", "its block 600 is earlier"),
        (HIGHER, False, "foreign", "none of the trades that were listed before"),
        ([], False, "unclear", "no trades"),
        ([block(400)], False, "unclear", "newer than all it lists"),
    ],
)
def test_what_is_listed_shows_the_chain(
    listed: list[Mark], has_ours: bool, kind: str, why: str
) -> None:
    found = OURS.judge(listed, has_ours=has_ours)
    assert found.kind == kind
    assert why in found.reason


def test_before_anything_was_listed_there_is_nothing_to_compare() -> None:
    assert ShownChain().judge(LOWER, has_ours=False).kind == "ours"


def test_marks_of_an_earlier_process_may_be_gone_from_the_list() -> None:
    shown = ShownChain([Mark(520, "", block(520).time), Mark(600, "AB12", block(600).time)])
    assert shown.judge(HIGHER, has_ours=False).kind == "ours"
    assert shown.judge(LOWER, has_ours=False).kind == "foreign"
    shown.learn(HIGHER)
    assert shown.marks == HIGHER
    assert shown.judge([block(9_900, begun_s=20_000)], has_ours=False).kind == "foreign"


def test_the_remembered_blocks_are_few_and_apart() -> None:
    shown = known(*range(1, 200))
    assert [mark.height for mark in shown.marks] == list(range(161, 200, 5))
