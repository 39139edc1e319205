"""How long a next attempt waits, and what makes it start over."""

import random

from shards.net.backoff import Backoff, Backoffs


class Longest(random.Random):
    """Chooses the upper end."""

    def uniform(self, a: float, b: float) -> float:
        return b


def test_each_attempt_waits_up_to_twice_as_long_until_there_is_data() -> None:
    backoff = Backoff(base_s=0.5, cap_s=15.0, rng=Longest())
    assert [backoff.next_s() for _ in range(7)] == [0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0]
    backoff.reset()
    assert backoff.next_s() == 0.5


def test_a_market_that_got_further_in_between_starts_over_whenever_that_was() -> None:
    backoffs = Backoffs(Longest())
    assert [backoffs.next_s("a", 100) for _ in range(4)] == [0.5, 1.0, 2.0, 4.0]
    assert backoffs.next_s("b", 7) == 0.5, "each market has its own"
    # A subscription that ends once a week does not wait longer each time.
    assert [backoffs.next_s("a", height) for height in range(200, 300)] == [0.5] * 100
