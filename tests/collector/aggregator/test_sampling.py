"""What the aggregator does once a second, with thousands of markets."""

from collector.aggregator.aggregator import Aggregator
from collector.aggregator.forwarder import Publisher
from collector.aggregator.status.sampling import Sampler
from collector.aggregator.telemetry.process_table import Processes
from collector.settings.parts import AggregatorConfig
from shards.protocol.settings import Endpoints, Market

MARKETS = tuple(Market(f"0x{n:064x}", f"T{n}/USDT", f"T{n}-USDT", "spot") for n in range(1_200))
LOOK_S = 5


class Sampled:
    """An aggregator of many markets, and its sampler."""

    def __init__(self) -> None:
        config = AggregatorConfig(
            epoch=1,
            publish=(),
            pull="",
            link="",
            folder="",
            markets=MARKETS,
            endpoints=Endpoints(),
            every_market=False,
        )
        publisher = Publisher(lambda part, flags=0: None)
        self.aggregator = Aggregator(config, publisher, clock=lambda: 1)
        self._sampler = Sampler(self.aggregator, Processes())

    def look(self, now: int) -> None:
        for _ in self._sampler.look(float(now), now * 1_000_000_000):
            pass

    def play(self, first: int, last: int, *, pace: int) -> None:
        """All books change at this pace; look after every few seconds."""
        books = [self.aggregator.topics.open(f"book.{market.symbol}.") for market in MARKETS]
        for now in range(first, last, LOOK_S):
            for book in books:
                book.sequence = book.topic_sequence = 1 + pace * now
            self.look(now)
            # However many markets there are, so many are looked at.
            assert sum(pace > 0 for pace in self.paces(now)) <= 500 * (1 + now // LOOK_S)

    def paces(self, now: int) -> list[float]:
        """Return every market's changes a second, as measured."""
        activity = self.aggregator.telemetry.activity
        return [activity.measured(m.market_id, float(now), 1.0).changes_per_s for m in MARKETS]


def test_every_market_is_measured_in_its_turn() -> None:
    sampled = Sampled()
    sampled.play(0, 120, pace=2)
    assert all(1.5 < pace < 2.5 for pace in sampled.paces(120))


def test_a_market_silent_on_another_chain_comes_to_rest_in_its_turn() -> None:
    sampled = Sampled()
    sampled.play(0, 60, pace=2)
    sampled.aggregator.topics.start_over(2)
    for now in range(60, 660, LOOK_S):
        sampled.look(now)
    assert all(pace < 0.1 for pace in sampled.paces(660))
