"""What the coordinator tells the aggregator, and when it tells it again."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from collector.aggregator.coordination import Standing
from collector.client.requests import RequestClient
from collector.client.summary import Summary
from collector.control.controller import Controller
from collector.control.desired_state import DesiredState, Selection
from collector.control.placement import Assignment
from collector.control.supervisor import Child, Supervisor
from collector.markets.listing import Listing
from collector.settings.parts import Supervision
from shards.protocol.settings import Endpoints
from tests.collector import children
from tests.collector.control.test_desired_state import FOUND


class Told:
    """A controller without processes, and an aggregator that answers as the test says."""

    def __init__(self, folder: Path) -> None:
        limits = Supervision()
        wanted = {market.market_id: 0 for market in FOUND}
        self.desired = DesiredState(FOUND, Assignment(frozenset(), wanted), Selection(), limits)
        self._client = RequestClient(f"ipc://{folder}/nobody")
        self.controller = Controller(
            self.desired,
            Listing(Endpoints(), every_s=3_600.0),
            Supervisor([], limits),
            lambda number: Child(f"shard {number}", children.stuck, lambda: None),
        )

    def answer(self, publisher_epoch: int) -> None:
        summary = Summary(publisher_epoch=publisher_epoch)
        standing = Standing(
            revision=self.desired.revision, unsettled=[], loads={}, commands=[], status=summary
        )
        self.controller.take(standing, {}, self._client)

    def close(self) -> None:
        self._client.close()


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    with contextlib.closing(Told(tmp_path)) as found:
        yield found


def test_statuses_are_sent_until_the_aggregator_has_them_and_then_when_they_change(
    told: Told,
) -> None:
    everything = {market.market_id: "Active" for market in FOUND}
    assert told.controller.statuses() == everything
    # The first answer is from an aggregator that may have begun after the statuses were sent.
    told.answer(5)
    assert told.controller.statuses() == everything
    assert told.controller.statuses() == everything, "not answered"
    told.answer(5)
    assert told.controller.statuses() == {}
    told.answer(5)
    paused = [msgspec.structs.replace(FOUND[0], status="Paused"), *FOUND[1:]]
    told.desired.listed(paused, 100)
    assert told.controller.statuses() == everything | {FOUND[0].market_id: "Paused"}
    told.answer(5)
    assert told.controller.statuses() == {}


def test_another_aggregator_gets_them_again(told: Told) -> None:
    for _ in range(2):
        told.controller.statuses()
        told.answer(5)
    assert told.controller.statuses() == {}
    told.answer(6)
    assert len(told.controller.statuses()) == len(FOUND)


def test_a_listing_like_the_last_one_changes_only_how_far_it_reaches(told: Told) -> None:
    desired = told.desired
    desired.listed(FOUND, 100)
    before = desired.statuses
    desired.listed(list(FOUND), 200)
    assert desired.listed_through == 200
    assert desired.statuses is before
    # A market that is missing twice is retired, however alike the listings are.
    for through in (300, 400):
        desired.listed(FOUND[1:], through)
    assert FOUND[0].market_id not in desired.assignment.wanted
