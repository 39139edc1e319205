"""Fetch snapshots by the chain's v2 query, pinned to a height if one is given."""

import time
from collections.abc import Sequence
from typing import Any, Final

import grpc.aio

from shards.adapters.injective_chain import grpc_decoder
from shards.adapters.injective_chain.heights import HEIGHT, height_in
from shards.adapters.messages import INJECTIVE
from shards.net.access import Access
from shards.net.circuit_breaker import CircuitBreaker
from shards.net.nodes import Nodes
from shards.protocol.errors import SourceError
from shards.protocol.events import Snapshot
from shards.protocol.settings import Market

_LIMIT: Final = 1_000_000
"""Levels per side. By default the node returns 20, so that the book looks whole but is not."""
_TIMEOUT_S: Final = 5.0


_UNANSWERED: Final = frozenset(
    ("", "UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "RESOURCE_EXHAUSTED")
)


def is_answer(error: SourceError) -> bool:
    """Whether a server has said that it has no such book; else it may have it, and did not say."""
    return error.status not in _UNANSWERED


class _Server:
    """One endpoint, its channel, and its breaker."""

    def __init__(self, endpoint: str, channel: grpc.aio.Channel, stub: Any) -> None:
        self.endpoint = endpoint
        self.channel = channel
        self.stub = stub
        # The next endpoint is available: one failure is enough to switch.
        self.breaker = CircuitBreaker(threshold=1, open_s=1.0)


class Snapshots:
    """
    Snapshot queries, at the first endpoint that works.

    A failed endpoint is tried again after a while, with a single query.
    """

    def __init__(
        self, endpoints: Sequence[str], access: Access | None = None, nodes: Nodes | None = None
    ) -> None:
        """``nodes`` knows which of them have our chain, and which are behind."""
        self._endpoints = endpoints
        self._access = access or Access()
        self._nodes = nodes
        self._query: Any = INJECTIVE.package("injective.exchange.v2")
        self._servers: list[_Server] = []

    def _server(self) -> _Server:
        """
        Return the server to query: the first that is fit and did not just fail.

        Where there is none, the first that did not just fail; at last that which may be asked soonest.
        """
        if not self._servers:
            for endpoint in self._endpoints:
                channel = self._access.open_channel(endpoint)
                stub = INJECTIVE.stub("injective.exchange.v2.Query", channel)
                self._servers.append(_Server(endpoint, channel, stub))
        now, nodes = time.monotonic(), self._nodes
        servers = self._servers
        if nodes is not None:
            servers = sorted(servers, key=lambda s: not nodes.is_fit(s.endpoint, "queries"))
        for server in servers:
            if server.breaker.allows(now):
                return server
        return min(self._servers, key=lambda server: server.breaker.wait_s(now))

    async def fetch(self, market: Market, height: int = 0, since: int = 0) -> Snapshot:
        """
        Fetch one book: the state after ``height``, or the current one if that is 0.

        A server whose book is older than block ``since`` is behind the stream: it counts as failed,
        and the next one is queried at once.

        Raises:
            SourceError: If the query fails at all servers.

        """
        failed: SourceError | None = None
        for _ in self._endpoints:
            server = self._server()
            try:
                found = await self._ask(server, market, height)
            except SourceError as error:
                if failed is None or not is_answer(failed):
                    failed = error
                continue
            if not 0 < found.height < since:
                server.breaker.succeeded()
                return found
            reason = f"its book of block {found.height} is behind the stream, at {since}"
            server.breaker.failed(time.monotonic(), reason)
            failed = SourceError(
                server.endpoint, f"order book of {market.symbol}: {reason}", status="OUT_OF_RANGE"
            )
        assert failed is not None
        raise failed

    async def _ask(self, server: "_Server", market: Market, height: int) -> Snapshot:
        try:
            await self._vet(server.endpoint)
            return await self._query_book(server, market, height)
        except SourceError as error:
            server.breaker.failed(time.monotonic(), error.reason)
            raise SourceError(
                server.endpoint,
                f"order book of {market.symbol}: {error.reason}",
                status=error.status,
            ) from None

    async def _vet(self, endpoint: str) -> None:
        """Make sure that a server has our chain before its books are believed."""
        if self._nodes is not None and (reason := await self._nodes.vet(endpoint, "queries")):
            raise SourceError(endpoint, f"not the chain being collected: {reason}")

    async def _query_book(self, server: "_Server", market: Market, height: int) -> Snapshot:
        name = "SpotOrderbook" if market.type == "spot" else "DerivativeOrderbook"
        request = getattr(self._query, f"Query{name}Request")(
            market_id=market.market_id, limit=_LIMIT
        )
        response, answered = await self._access.query(
            server.endpoint,
            getattr(server.stub, name),
            request,
            timeout_s=_TIMEOUT_S,
            metadata=((HEIGHT, str(height)),) if height else (),
        )
        found = height_in(server.endpoint, answered, height)
        return grpc_decoder.snapshot(market.market_id, found, response)

    async def close(self) -> None:
        """Close the channels."""
        servers, self._servers = self._servers, []
        for server in servers:
            await server.channel.close()
