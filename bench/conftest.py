"""How the benches are timed: many updates per round, and a yardstick beside them."""

from collections.abc import Callable
from typing import Any, Protocol

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from tests import needs

ROUNDS = 15


class PerUpdate(Protocol):
    """Time a function that handles a number of updates at once."""

    def __call__(
        self, run: Callable[..., Any], *, updates: int, setup: Callable[[], tuple[Any, ...]] = ...
    ) -> Any: ...


@pytest.fixture
def per_update(benchmark: BenchmarkFixture) -> PerUpdate:
    """Time a function and note the time of one update, in µs, beside the round's."""

    def time_it(
        run: Callable[..., Any],
        *,
        updates: int,
        setup: Callable[[], tuple[Any, ...]] = tuple,
    ) -> Any:
        found = benchmark.pedantic(run, setup=lambda: (setup(), {}), rounds=ROUNDS, warmup_rounds=1)
        benchmark.extra_info["updates"] = updates
        # Without timing (--benchmark-disable) there are no statistics.
        if benchmark.stats is not None:
            median = benchmark.stats["median"]
            benchmark.extra_info["us_per_update"] = round(median * 1e6 / updates, 3)
        return found

    return time_it


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """At the end, list what this machine could not prove, and what it would need."""
    needs.summarize(terminalreporter)
