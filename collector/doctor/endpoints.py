"""
Check each endpoint: does it answer, which version does it run, is it behind, how fast is it?

Each is used as a collector would use it: an RPC for the node's state, a listing for the markets, a
stream for the first block of one market.
"""

import asyncio
import contextlib
import http.client
import logging
import time
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from collector.doctor.clock import Witness
from collector.doctor.findings import Finding, bad, fine, note, span
from collector.markets.selection import with_symbols
from shards.adapters import registry
from shards.adapters.interface import Adapter, BlockGone, Unable
from shards.net import http_get
from shards.net.access import Access, host_of
from shards.net.http_dates import instant
from shards.net.rpc import Rpc, view_of
from shards.protocol.errors import UNREADABLE, DecodeError, SourceError
from shards.protocol.events import Block, Cause
from shards.protocol.settings import Endpoints, Market, ShardConfig
from shards.protocol.text import without_secrets

_ANSWER_S: Final = 5.0
_HEALTH_BYTES: Final = 1 << 16
_STREAM_S: Final = 15.0
_BEHIND: Final = 10
"""Blocks; the heights are read a few seconds apart."""
_OLD_S: Final = 30.0
_BACK: Final = 20
"""Distance from the head of the block requested from an event provider."""
_CALLS: Final = 5
_OUTDATED: Final = ("UNIMPLEMENTED", "unknown service", "unknown method", "Method not found")


class Look(msgspec.Struct, kw_only=True):
    """The results for one endpoint."""

    place: str
    """The list that contains it."""
    endpoint: str
    error: str = ""
    outdated: bool = False
    """Whether it does not know the request: its software has another version."""
    said: tuple[str, ...] = ()
    """Facts to show."""
    doubts: tuple[str, ...] = ()
    """What could be improved."""
    height: int = 0
    at: float = 0.0
    """When it reported that height, monotonic."""
    made: float = 0.0
    """The block's own time, seconds since 1970."""
    network: str = ""
    catching_up: bool = False
    ahead_s: float | None = None
    """Seconds that its host's clock is ahead of ours."""


# ---- the nodes' RPC ---------------------------------------------------------------------


class _Info(msgspec.Struct, frozen=True):
    data: str = ""
    version: str = ""


class _InfoResult(msgspec.Struct):
    response: _Info = _Info()


class _InfoAnswer(msgspec.Struct):
    result: _InfoResult | None = None


async def look_at_rpc(endpoint: str, access: Access) -> Look:
    """Ask a node for its state."""
    look = Look(place="rpc", endpoint=endpoint)
    rpc = Rpc(endpoint, access, timeout_s=_ANSWER_S)
    try:
        # The first call connects.
        view = await view_of(rpc)
        times = []
        for _ in range(_CALLS):
            began = time.monotonic()
            view = await view_of(rpc)
            times.append(time.monotonic() - began)
        look.height, look.at, look.made = (
            view.latest.height,
            time.monotonic(),
            view.latest.time / 1e9,
        )
        look.network, look.catching_up = view.network, view.catching_up
        kept = view.latest.height - view.earliest.height if view.earliest.height else 0
        keeps = f"keeps {kept:,} blocks" if kept else ""
        look.said = tuple(
            filter(None, (await _version(rpc), f"answers in {span(min(times))}", keeps))
        )
        if reason := await _results_missing(rpc, view.latest.height - 1):
            look.doubts = (reason,)
    except SourceError as error:
        _failed(look, error)
    else:
        look.ahead_s = await asyncio.to_thread(_clock_of, endpoint, access)
    finally:
        rpc.close()
    return look


async def _version(rpc: Rpc) -> str:
    try:
        answer = msgspec.json.decode(await rpc.call("abci_info"), type=_InfoAnswer)
    except (SourceError, *UNREADABLE):
        return ""
    info = answer.result.response if answer.result else _Info()
    return without_secrets(f"{info.data} {info.version}".strip()[:60])


async def _results_missing(rpc: Rpc, height: int) -> str:
    """Return why the record of a block is not available; empty if it is."""
    try:
        answer = await rpc.call("block_results", within_s=_ANSWER_S, height=str(height))
    except SourceError as error:
        return f"block_results: {error.reason}: lost blocks cannot be fetched here"
    if b'"result"' in answer[:200]:
        return ""
    return "it keeps no block results (discard_abci_responses): lost blocks cannot be fetched here"


def _clock_of(endpoint: str, access: Access) -> float | None:
    """Compare a host's clock with ours by its HTTP date; None without one."""
    url = urlsplit(endpoint)
    connection: http.client.HTTPConnection
    if url.scheme == "https":
        context = access.ssl_context(f"wss://{url.netloc}")
        connection = http.client.HTTPSConnection(url.netloc, timeout=_ANSWER_S, context=context)
    else:
        connection = http.client.HTTPConnection(url.netloc, timeout=_ANSWER_S)
    try:
        before = time.time()
        path = f"{url.path.rstrip('/')}/health?{url.query}"
        answer, _ = http_get.get(connection, path, within_s=_ANSWER_S, largest=_HEALTH_BYTES)
        told = answer.headers.get("Date")
        after = time.time()
        theirs = instant(told or "")
        # Truncated to whole seconds: half a second early on average.
        return None if theirs is None else theirs + 0.5 - (before + after) / 2
    except (OSError, ValueError, http.client.HTTPException):
        return None
    finally:
        connection.close()


# ---- listings ---------------------------------------------------------------------------


async def look_at_listing(
    adapter: Adapter, endpoint: str, access: Access
) -> tuple[Look, list[Market]]:
    """Ask an endpoint for the markets."""
    look = Look(place=adapter.listing, endpoint=endpoint)
    began = time.monotonic()
    try:
        found, _ = await asyncio.to_thread(adapter.list_markets, endpoint, access)
    except SourceError as error:
        _failed(look, error)
        return look, []
    took = span(time.monotonic() - began)
    look.said = (f"lists {len(found)} markets in {took}",)
    return look, with_symbols(found)


# ---- streams ----------------------------------------------------------------------------


class _FirstBlock:
    """A sink that waits for one block, or for the first failure."""

    def __init__(self) -> None:
        self.came: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.decode: Any = None
        self.block: Block | None = None

    def subscribed(self, subscription: int, market_ids: Iterable[str]) -> None:
        """It is asked for."""

    def confirmed(self, subscription: int) -> None:
        """It was accepted."""

    def receive(
        self, payload: bytes | memoryview, ts_recv: int, last: bool, subscription: int = 0
    ) -> None:
        """Take the first block, or the first payload if payloads are not blocks."""
        if self.came.done():
            return
        if self.decode is not None:
            try:
                _, message = self.decode(payload, subscription)
            except DecodeError as error:
                self.lost(subscription, "disconnect", f"cannot be read: {error.reason}")
                return
            if not isinstance(message, Block):
                return
            self.block = message
        self.came.set_result(bytes(payload))

    def lost(self, subscription: int, cause: Cause, reason: str) -> None:
        """The subscription has ended."""
        if not self.came.done():
            self.came.set_exception(SourceError("", reason))

    def disconnected(self, cause: Cause, reason: str) -> None:
        """The connection has ended."""
        self.lost(0, cause, reason)


async def look_at_stream(
    adapter: Adapter, endpoint: str, market: Market, endpoints: Endpoints, access: Access
) -> Look:
    """Subscribe one market, and wait for its first block."""
    look = Look(place=adapter.stream, endpoint=endpoint)
    alone = endpoints.filtered(lambda name, at: name != adapter.stream or at == endpoint)
    config = ShardConfig(
        shard=0,
        epoch=1,
        source=adapter.name,
        endpoints=alone,
        markets=(market,),
        push="",
        link="",
    )
    sink = _FirstBlock()
    source = adapter.open_source(config, sink, access)
    sink.decode = getattr(source, "decode", None)
    began = time.monotonic()
    running = asyncio.create_task(source.run())
    try:
        async with asyncio.timeout(_STREAM_S):
            await sink.came
        look.said = (f"streams: the first data after {span(time.monotonic() - began)}",)
        if sink.block is not None:
            look.height, look.at = sink.block.height, time.monotonic()
            look.made = sink.block.ts_event / 1e9
    except TimeoutError:
        look.error = f"no data within {_STREAM_S:.0f} s: does the chain make blocks?"
    except SourceError as error:
        _failed(look, error)
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError, SourceError):
            await running
    return look


def _failed(look: Look, error: SourceError) -> None:
    look.error = error.reason
    look.outdated = any(text in error.reason or text == error.status for text in _OUTDATED)


# ---- event providers --------------------------------------------------------------------


async def look_at_events(
    adapter: Adapter, kind: str, endpoint: str, height: int, endpoints: Endpoints, access: Access
) -> Look:
    """Ask an event provider for a recent block."""
    look = Look(place=kind, endpoint=endpoint)
    alone = endpoints.filtered(lambda name, at: (name, at) == (kind, endpoint))
    began = time.monotonic()
    sources = adapter.past_blocks(alone, access, with_extras=False)
    for source in sources:
        try:
            block = await source.fetch(height)
        except SourceError as error:
            _failed(look, error)
        except (BlockGone, Unable) as error:
            look.doubts = (f"it does not have block {height:,}: {error}",)
        else:
            took = span(time.monotonic() - began)
            look.said = (f"has block {block.height:,}, fetched in {took}",)
        finally:
            await source.aclose()
    return look


# ---- all of them ------------------------------------------------------------------------


async def look_at_all(adapter: Adapter, endpoints: Endpoints, access: Access) -> list[Look]:
    """Check every endpoint that this adapter may use; those of one kind at the same time."""
    # The findings contain the sources' failures.
    logging.getLogger("shards").setLevel(logging.CRITICAL)
    looks = list(
        await asyncio.gather(
            *(look_at_rpc(one, access) for one in registry.of_role(endpoints, "rpc"))
        )
    )
    listed = await asyncio.gather(
        *(look_at_listing(adapter, one, access) for one in endpoints.of(adapter.listing))
    )
    looks += [look for look, _ in listed]
    market = next((markets[0] for _, markets in listed if markets), None)
    if market is not None:
        looks += await asyncio.gather(
            *(
                look_at_stream(adapter, one, market, endpoints, access)
                for one in endpoints.of(adapter.stream)
            )
        )
    providers = [
        (kind.name, one)
        for kind in adapter.endpoint_kinds
        if kind.role == "events"
        for one in endpoints.of(kind.name)
    ]
    if height := max((look.height for look in looks), default=0):
        looks += await asyncio.gather(
            *(
                look_at_events(adapter, kind, one, height - _BACK, endpoints, access)
                for kind, one in providers
            )
        )
    return looks


def witnesses(looks: Iterable[Look]) -> list[Witness]:
    """Collect the hosts' clocks."""
    return [Witness(host_of(one.endpoint), one.ahead_s) for one in looks if one.ahead_s is not None]


def judge(looks: list[Look], paces: dict[str, float]) -> list[Finding]:
    """Judge the endpoints, also by comparison; ``paces`` are the allowed requests per second."""
    head = max((one.height for one in looks), default=0)
    chains = [one.network for one in looks if one.network]
    ahead = next((one.ahead_s for one in looks if one.ahead_s is not None), 0.0)
    return [_judged(one, head, chains[0] if chains else "", ahead, paces) for one in looks]


def _judged(
    look: Look, head: int, network: str, ahead_s: float, paces: dict[str, float]
) -> Finding:
    name = without_secrets(look.endpoint)
    if look.outdated:
        return bad(
            look.place,
            f"{name} has an older API ({look.error}): upgrade that node, or name another endpoint",
        )
    if look.error:
        return bad(look.place, f"{name}: {look.error}: is it up, and is this its address?")
    said = "; ".join([*_height(look), *look.said, *_pace(look, paces)])
    if look.network != network and look.network:
        return bad(look.place, f"{name} is of network {look.network}, not {network}: name another")
    behind = head - look.height if look.height else 0
    if behind > _BEHIND:
        more = ", catching up" if look.catching_up else ""
        return bad(
            look.place, f"{name} is {behind:,} blocks behind{more}: wait, or name another; {said}"
        )
    # By the block's time and the host's clock.
    age = time.time() + ahead_s - look.made - (time.monotonic() - look.at) if look.made else 0.0
    if look.catching_up or age > _OLD_S:
        return bad(
            look.place, f"{name} has no block of the last {span(age)}: is the chain halted? {said}"
        )
    if look.doubts:
        return note(look.place, f"{name}: {'; '.join(look.doubts)}; {said}")
    return fine(look.place, f"{name}: {said}")


def _height(look: Look) -> list[str]:
    return [f"block {look.height:,}"] if look.height else []


def _pace(look: Look, paces: dict[str, float]) -> list[str]:
    pace = paces.get(look.endpoint)
    return [f"{pace:g} requests a second allowed"] if pace else []
