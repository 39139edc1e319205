"""When to try again, and where: backoff, breaker and the pool of endpoints."""

import asyncio
import errno
import gc
import os
import random
import time
from collections.abc import Iterable, Iterator

import grpc
import pytest
from hypothesis import given, settings, strategies as st

from shards.adapters.injective_chain.grpc_source import ChainGrpc
from shards.net import websocket
from shards.net.access import is_unreachable
from shards.net.backoff import Backoff
from shards.net.circuit_breaker import UNREACHABLE_S, CircuitBreaker
from shards.net.endpoint_pool import EndpointPool
from shards.protocol.errors import SourceError
from shards.protocol.events import Cause
from shards.protocol.settings import Market
from tests.searches import examples
from tests.system.running import free_port_pair

# ---- backoff ----------------------------------------------------------------------------


@settings(max_examples=examples(100), deadline=None)
@given(base=st.floats(0.01, 5), cap=st.floats(0.01, 60), seed=st.integers(0, 2**16))
def test_waits_stay_under_a_ceiling_that_doubles_up_to_the_cap(
    base: float, cap: float, seed: int
) -> None:
    backoff = Backoff(base_s=base, cap_s=cap, rng=random.Random(seed))
    for attempt in range(30):
        assert backoff.attempt == attempt
        assert 0 <= backoff.next_s() <= min(cap, base * 2**attempt)


def test_waits_are_spread_over_the_whole_range_so_that_shards_do_not_come_back_in_step() -> None:
    waits = []
    for seed in range(200):
        backoff = Backoff(base_s=1, cap_s=1, rng=random.Random(seed))
        waits.append(backoff.next_s())
    assert min(waits) < 0.1
    assert max(waits) > 0.9


def test_a_reset_starts_over() -> None:
    backoff = Backoff(base_s=1, cap_s=100, rng=random.Random(1))
    for _ in range(10):
        backoff.next_s()
    backoff.reset()
    assert backoff.attempt == 0
    assert backoff.next_s() <= 1


# ---- breaker ----------------------------------------------------------------------------

STORIES: dict[str, list[tuple[float, str, object]]] = {
    "closed until enough failures in a row": [
        (0, "fail", None),
        (0, "fail", None),
        (0, "allows", True),
        (0, "state", "closed"),
        (0, "fail", None),
        (0, "state", "open"),
        (0, "allows", False),
    ],
    "a success in between starts the count over": [
        (0, "fail", None),
        (0, "fail", None),
        (0, "succeed", None),
        (0, "fail", None),
        (0, "fail", None),
        (0, "state", "closed"),
    ],
    "half open after its time, for one probe only": [
        (0, "open", None),
        (9.9, "allows", False),
        (9.9, "wait", 0.1),
        (10, "state", "half-open"),
        (10, "wait", 0.0),
        (10, "allows", True),
        (10, "allows", False),
        (500, "allows", False),
    ],
    "a failed probe opens it again, for as long": [
        (0, "open", None),
        (10, "allows", True),
        (11, "fail", None),
        (11, "state", "open"),
        (20.9, "allows", False),
        (21, "allows", True),
    ],
    "a probe that succeeds closes it": [
        (0, "open", None),
        (10, "allows", True),
        (11, "succeed", None),
        (11, "state", "closed"),
        (11, "allows", True),
        (11, "allows", True),
        (11, "fail", None),
        (11, "state", "closed"),
    ],
    "a closed breaker has nothing to wait for": [
        (0, "wait", 0.0),
        (0, "fail", None),
        (0, "wait", 0.0),
    ],
}


@pytest.mark.parametrize("name", STORIES)
def test_a_breaker_is(name: str) -> None:
    breaker = CircuitBreaker(threshold=3, open_s=10)
    for now, step, expected in STORIES[name]:
        match step:
            case "fail":
                breaker.failed(now, "refused")
                assert breaker.reason == "refused"
            case "open":
                for _ in range(3):
                    breaker.failed(now, "refused")
            case "succeed":
                breaker.succeeded()
                assert breaker.reason == ""
            case "allows":
                assert breaker.allows(now) is expected, (now, step)
            case "state":
                assert breaker.state(now) == expected, (now, step)
            case "wait":
                assert breaker.wait_s(now) == pytest.approx(expected), (now, step)


def test_where_nobody_answers_a_breaker_opens_briefly_however_often() -> None:
    breaker = CircuitBreaker(threshold=3, open_s=2)
    for _ in range(20):
        breaker.failed(0, "refused", unreachable=True)
    assert breaker.wait_s(0) == UNREACHABLE_S
    # Now there is a server, and it closes: it is given a rest as if that were its first failures.
    waits = []
    for _ in range(8):
        breaker.failed(0, "closed")
        waits.append(breaker.wait_s(0))
    assert waits == [2, 2, 2, 4, 8, 10, 10, 10]


# ---- the pool ---------------------------------------------------------------------------


def pool(*endpoints: str) -> EndpointPool:
    return EndpointPool(endpoints, backoff=Backoff(base_s=0, cap_s=0))


async def fail(endpoints: EndpointPool, times: int) -> list[str]:
    """Try so often, and fail; say where."""
    tried = []
    for _ in range(times):
        tried.append(await endpoints.next())
        endpoints.failed("refused")
    return tried


async def test_endpoints_are_tried_in_turn_until_their_breakers_open() -> None:
    endpoints = pool("a", "b", "c")
    assert await fail(endpoints, 11) == ["a", "b", "c"] * 3 + ["a", "b"]
    assert [s.breaker for s in endpoints.states()] == ["open", "open", "closed"]
    assert [s.reason for s in endpoints.states()] == ["refused"] * 3
    assert endpoints.attempts == 11


async def test_the_preferred_endpoint_is_probed_once_its_time_has_passed() -> None:
    later_s = 0.0
    endpoints = EndpointPool(
        ("a", "b"),
        backoff=Backoff(base_s=0, cap_s=0),
        clock=lambda: time.monotonic() + later_s,
    )
    await endpoints.next()
    for _ in range(4):
        endpoints.probed("a", "refused")
    endpoints.failed("refused")
    assert await endpoints.next() == "b"
    endpoints.succeeded()
    assert endpoints.preferred() is None
    later_s = 11.0
    assert endpoints.preferred() == "a"
    endpoints.probed("a", "refused")
    assert endpoints.preferred() is None
    endpoints.probed("a")
    assert endpoints.preferred() == "a"
    endpoints.failed("left for a better one")
    assert await endpoints.next() == "a"
    assert [s.in_use for s in endpoints.states()] == [True, False]


async def test_an_endpoint_that_was_left_for_a_better_one_is_the_next_choice_at_once() -> None:
    endpoints = pool("a", "b")
    await endpoints.next()
    for _ in range(3):
        endpoints.failed("mute")
        assert await endpoints.next() == "b"
        endpoints.succeeded()
        endpoints.probed("a")
        endpoints.leave()
        endpoints.failed("returning to a")
        assert await endpoints.next() == "a"
        endpoints.succeeded()


async def test_data_from_the_first_choice_leaves_nothing_to_prefer() -> None:
    endpoints = pool("a", "b")
    await endpoints.next()
    endpoints.succeeded()
    assert endpoints.preferred() is None


async def test_with_all_breakers_open_it_waits_for_the_one_that_opens_first() -> None:
    endpoints = pool("a")
    await fail(endpoints, 4)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(endpoints.next(), 0.01)
    endpoints.probed("a")
    assert await asyncio.wait_for(endpoints.next(), 60) == "a"


async def test_only_data_resets_the_backoff() -> None:
    backoff = Backoff(base_s=0, cap_s=0)
    endpoints = EndpointPool(("a",), backoff=backoff)
    await fail(endpoints, 2)
    await endpoints.next()
    assert backoff.attempt == 3
    endpoints.succeeded()
    assert backoff.attempt == 0


def test_a_pool_without_endpoints_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        EndpointPool(())


async def test_waits_stay_short_while_nobody_answers_and_do_not_count() -> None:
    backoff = Backoff(base_s=100, cap_s=100, rng=random.Random(1))
    endpoints = EndpointPool(("a",), backoff=backoff)
    await endpoints.next()
    for _ in range(2):
        endpoints.failed("refused", unreachable=True)
        await asyncio.wait_for(endpoints.next(), UNREACHABLE_S + 8)
    assert backoff.attempt == 1


# ---- who is not there ----------------------------------------------------------------------

REFUSED = OSError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (REFUSED, True),
        (OSError(f"Multiple exceptions: [Errno 111] {REFUSED}, [Errno 111] {REFUSED}"), True),
        (OSError(errno.EHOSTUNREACH, "No route to host"), True),
        (TimeoutError(), True),
        (OSError(errno.ECONNRESET, "Connection reset by peer"), False),
        (OSError("Multiple exceptions: [Errno 111] refused, [Errno 104] reset"), False),
        (ValueError("no URL"), False),
    ],
)
def test_unreachable_is_who_did_not_answer_at_all(error: Exception, expected: bool) -> None:
    assert is_unreachable(error) is expected


class Nobody:
    """A sink that only notes how its source fails."""

    def __init__(self, failures: int) -> None:
        self._left = failures
        self.failed = asyncio.Event()
        """It has failed so often."""

    def subscribed(self, subscription: int, market_ids: Iterable[str]) -> None: ...
    def confirmed(self, subscription: int) -> None: ...
    def receive(
        self, payload: bytes | memoryview, ts_recv: int, last: bool, subscription: int = 0
    ) -> None: ...
    def lost(self, subscription: int, cause: Cause, reason: str) -> None: ...

    def disconnected(self, cause: Cause, reason: str) -> None:
        self._left -= 1
        if not self._left:
            self.failed.set()


@pytest.fixture
def closed_port() -> int:
    """Return a port at which nobody listens, nor at the next one."""
    return free_port_pair()


@pytest.fixture
def no_collections() -> Iterator[None]:
    """Free only what nobody refers to, as a shard does for minutes."""
    gc.disable()
    yield
    gc.enable()


async def test_a_websocket_at_which_nobody_listens_is_unreachable(closed_port: int) -> None:
    with pytest.raises(SourceError) as raised:
        await websocket.connect(f"ws://127.0.0.1:{closed_port}/", lambda *_: None)
    assert raised.value.unreachable


async def _failed_channel(address: str) -> grpc.aio.Channel:
    """Return a channel that has just failed to connect, and will try again."""
    channel = grpc.aio.insecure_channel(address)
    state = channel.get_state(try_to_connect=True)
    while state is not grpc.ChannelConnectivity.TRANSIENT_FAILURE:
        await channel.wait_for_state_change(state)
        state = channel.get_state(try_to_connect=True)
    return channel


@pytest.mark.usefixtures("no_collections")
async def test_calls_that_failed_leave_no_channel_that_connects_when_the_server_is_back(
    closed_port: int,
) -> None:
    market = Market("0x" + "1" * 64, "A/B", "A-B", "spot")
    connected: list[asyncio.StreamWriter] = []
    sink = Nobody(failures=5)
    address = f"127.0.0.1:{closed_port}"
    source = ChainGrpc([address], [market], sink, channels=("book", "trades"), return_s=30.0)
    async with asyncio.timeout(30):
        running = asyncio.create_task(source.run())
        await sink.failed.wait()
        assert source.endpoints.states()[0].reason.endswith("Connection refused")
        # A channel that nobody closed would try again, and no later than this one, elsewhere.
        left = await _failed_channel(f"127.0.0.1:{closed_port + 1}")
        tried: asyncio.Future[asyncio.StreamWriter] = asyncio.Future()
        async with (
            await asyncio.start_server(
                lambda _, writer: tried.set_result(writer), "127.0.0.1", closed_port + 1
            ),
            await asyncio.start_server(
                lambda _, writer: connected.append(writer), "127.0.0.1", closed_port
            ),
        ):
            connected_elsewhere = await tried
            await left.close()
            # Of the source itself.
            assert len(connected) <= 1
            running.cancel()
            await asyncio.wait([running])
            for writer in [*connected, connected_elsewhere]:
                writer.close()
                await writer.wait_closed()
