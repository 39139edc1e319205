"""How far a relay says that everything is complete."""

from collector.client.topic_cursor import Position
from collector.relay.rebroadcast import Rebroadcast

EVERY = frozenset(("trades.A.", "trades.B."))


def positions(**complete: int) -> list[Position]:
    return [Position(f"trades.{symbol}.", 1, 0, height) for symbol, height in complete.items()]


def test_the_head_is_that_of_the_market_which_is_least_far() -> None:
    relay = Rebroadcast(7)
    relay.stand(positions(A=90, B=100), EVERY.__contains__, 0.0)
    assert (relay.head, relay.ahead) == (90, {"B": 100})


def test_a_topic_that_is_offered_no_more_holds_the_head_for_a_while_and_not_for_ever() -> None:
    relay, only = Rebroadcast(7), frozenset(("trades.B.",))
    relay.stand(positions(A=90, B=90), EVERY.__contains__, 0.0)
    # An aggregator has just begun, and has not heard of it yet.
    relay.stand(positions(A=90, B=200), only.__contains__, 10.0)
    assert relay.head == 90
    relay.stand(positions(A=200, B=300), EVERY.__contains__, 100.0)
    assert relay.head == 200
    for now in (110.0, 400.0, 410.0):
        relay.stand(positions(A=200, B=1_000), only.__contains__, now)
    assert (relay.head, relay.ahead) == (1_000, {})
    # It is back, and counts again.
    relay.stand(positions(A=1_001, B=2_000), EVERY.__contains__, 420.0)
    assert (relay.head, relay.ahead) == (1_001, {"B": 2_000})
