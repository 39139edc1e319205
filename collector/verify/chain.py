"""The chain's record: block results over HTTP, books over gRPC; blocking, for one thread."""

import datetime
import http.client
import json
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import urlsplit

import grpc

from collector.verify.block_results import ChainTrade, Sides, changes, trades
from shards.adapters.messages import INJECTIVE
from shards.net import http_get
from shards.net.access import Access
from shards.protocol.errors import UNREADABLE
from shards.protocol.settings import Endpoints
from shards.protocol.text import without_secrets

_LIMIT: Final = 1_000_000
"""Levels per side; by default the node returns twenty."""
_TIMEOUT_S: Final = 10.0
_LARGEST: Final = 1 << 28
"""The longest answer; the record of a very large block has 70 MB."""
_RETRY_S: Final = 0.25
_GREET_S: Final = 5.0
_NO_MARKET: Final = "0x" + "0" * 64
_HEIGHT: Final = "x-cosmos-block-height"
_FINAL: Final = frozenset({"UNIMPLEMENTED", "UNAUTHENTICATED", "PERMISSION_DENIED"})
_FOREIGN: Final = (*UNREADABLE, KeyError, TypeError, AttributeError, IndexError)
"""What is raised where an answer has another shape than ours."""

T = TypeVar("T")


class ChainBook(NamedTuple):
    """One book according to the chain, after a block; levels scaled by 10^18."""

    sequence: int
    bids: dict[int, int]
    asks: dict[int, int]


class Unreachable(Exception):
    """Something that the check needs does not answer; the text is one sentence."""


class Chain:
    """
    One node, queried at no more than `max_rps` requests per second.

    A failed query is repeated for `patience_s`: a node may be restarting, or may not yet have the
    height that a stream has just sent.
    """

    def __init__(
        self,
        rpc: str,
        grpc_endpoint: str,
        *,
        network: Endpoints | None = None,
        max_rps: float = 50.0,
        patience_s: float = 60.0,
    ) -> None:
        self.rpc, self.grpc = rpc.rstrip("/"), grpc_endpoint
        self._patience_s = patience_s
        self._interval_s = 1.0 / max_rps
        self._next_at = 0.0
        self._http: http.client.HTTPConnection | None = None
        self._query: Any = INJECTIVE.package("injective.exchange.v2")
        # Only the connection is the collector's own code: TLS and trusted certificates.
        access = Access(network)
        self._tls = access.ssl_context(rpc)
        self._channel = access.open_blocking(grpc_endpoint)
        self._stub = INJECTIVE.stub("injective.exchange.v2.Query", self._channel)

    def greet(self) -> None:
        """
        Check that both endpoints answer, quickly, so that a typing error is reported at once.

        Raises:
            Unreachable: If one of them does not.

        """
        patience_s, self._patience_s = self._patience_s, min(self._patience_s, _GREET_S)
        # The chain accepts any market id; an unknown one has an empty book.
        self.book(_NO_MARKET, "spot", self.latest())
        self._patience_s = patience_s

    def greet_rpc(self) -> None:
        """
        Check that the RPC endpoint answers, as quickly as `greet`.

        Raises:
            Unreachable: If it does not.

        """
        patience_s, self._patience_s = self._patience_s, min(self._patience_s, _GREET_S)
        self.latest()
        self._patience_s = patience_s

    def latest(self) -> int:
        """
        Return the height of the newest block.

        Raises:
            Unreachable: If the node does not answer.

        """

        def ask() -> int:
            return int(self._get("/status")["sync_info"]["latest_block_height"])

        return self._insist("its height", ask)

    def trades(self, height: int) -> list[ChainTrade]:
        """
        Return a block's trades, in the chain's order.

        Raises:
            Unreachable: If the node does not have them, or does not answer.

        """
        return self._insist(
            f"block_results of height {height}",
            lambda: trades(self._get(f"/block_results?height={height}")),
        )

    def lowest(self) -> int:
        """
        Return the lowest height that the node still has.

        Raises:
            Unreachable: If the node does not answer.

        """

        def ask() -> int:
            return int(self._get("/status")["sync_info"]["earliest_block_height"])

        return self._insist("its lowest height", ask)

    def network(self) -> str:
        """
        Return the id of the node's network.

        Raises:
            Unreachable: If the node does not say.

        """
        return self._insist(
            "its network", lambda: str(self._get("/status")["node_info"]["network"])
        )

    def newest(self) -> tuple[int, float]:
        """
        Return the newest block's height, and its time in seconds since 1970.

        Raises:
            Unreachable: If the node does not say.

        """

        def ask() -> tuple[int, float]:
            found = self._get("/status")["sync_info"]
            # To the second: nanoseconds are more than datetime can read.
            made = datetime.datetime.fromisoformat(found["latest_block_time"][:19] + "+00:00")
            return int(found["latest_block_height"]), made.timestamp()

        return self._insist("its newest block", ask)

    def block_hash(self, height: int) -> str:
        """
        Return the hash of a block that is not the newest; empty where the node does not have it.

        Raises:
            Unreachable: If the node does not answer.

        """
        if not self.lowest() <= height < self.latest():
            return ""
        # The next block's header names it.
        path = f"/header?height={height + 1}"
        return self._insist(
            f"header of height {height + 1}",
            lambda: str(self._get(path)["header"]["last_block_id"]["hash"]),
        )

    def record(self, height: int) -> tuple[list[ChainTrade], dict[tuple[str, int], Sides]]:
        """
        Return a block's trades, and its book changes by market id and sequence.

        Raises:
            Unreachable: If the node does not have them, or does not answer.

        """

        def ask() -> tuple[list[ChainTrade], dict[tuple[str, int], Sides]]:
            result = self._get(f"/block_results?height={height}")
            return trades(result), changes(result)

        return self._insist(f"block_results of height {height}", ask)

    def book(self, market_id: str, market_type: str, height: int) -> ChainBook:
        """
        Return a whole book after a block.

        Raises:
            Unreachable: If the node does not have it, or does not answer.

        """
        return self._insist(
            f"order book of {market_id} at height {height}",
            lambda: self._book(market_id, market_type, height),
            self.grpc,
        )

    def close(self) -> None:
        """Close both connections."""
        self._channel.close()
        self._hang_up()

    def _hang_up(self) -> None:
        if self._http is not None:
            self._http.close()
            self._http = None

    def _insist(self, what: str, ask: Callable[[], T], where: str = "") -> T:
        where = where or self.rpc
        deadline = time.monotonic() + self._patience_s
        while True:
            wait_s = self._next_at - time.monotonic()
            if wait_s > 0:
                time.sleep(wait_s)
            self._next_at = time.monotonic() + self._interval_s
            try:
                return ask()
            except (OSError, http.client.HTTPException, *_FOREIGN) as error:
                self._hang_up()
                reason, is_final = _reason(error), False
            except grpc.RpcError as error:
                code = error.code().name
                reason = f"{code} {error.details()}"
                is_final = code in _FINAL
            if is_final or time.monotonic() > deadline:
                raise Unreachable(
                    f"{without_secrets(where)} does not give {what}: {without_secrets(reason)}"
                )
            time.sleep(_RETRY_S)

    def _get(self, path: str) -> dict[str, Any]:
        if self._http is None:
            url = urlsplit(self.rpc)
            host = url.hostname or ""
            self._http = (
                http.client.HTTPConnection(host, url.port, timeout=_TIMEOUT_S)
                if self._tls is None
                else http.client.HTTPSConnection(
                    host, url.port, timeout=_TIMEOUT_S, context=self._tls
                )
            )
        url = urlsplit(self.rpc)
        query = f"?{url.query}" if url.query else ""
        _, body = http_get.get(
            self._http,
            url.path.rstrip("/") + path + query,
            # The record of a block may be large, and the line slow.
            within_s=max(_TIMEOUT_S, self._patience_s),
            largest=_LARGEST,
        )
        try:
            answer = json.loads(body)
        except UNREADABLE:
            raise ValueError("its answer is not JSON: is it a CometBFT RPC?") from None
        if "result" not in answer:
            error = answer.get("error") or {}
            raise ValueError(f"{error.get('message', 'no result')} {error.get('data', '')}".strip())
        result: dict[str, Any] = answer["result"]
        return result

    def _book(self, market_id: str, market_type: str, height: int) -> ChainBook:
        is_spot = market_type == "spot"
        name = "SpotOrderbook" if is_spot else "DerivativeOrderbook"
        request = getattr(self._query, f"Query{name}Request")(market_id=market_id, limit=_LIMIT)
        answer, call = getattr(self._stub, name).with_call(
            request, timeout=_TIMEOUT_S, metadata=((_HEIGHT, str(height)),)
        )
        answered = dict(call.initial_metadata()).get(_HEIGHT, "")
        if answered != str(height):
            raise ValueError(f"it answered for height {answered or '?'}")
        # Amounts are integers of 10^-18 in this answer.
        bids = {int(level.p): int(level.q) for level in answer.buys_price_level}
        asks = {int(level.p): int(level.q) for level in answer.sells_price_level}
        return ChainBook(answer.seq, bids, asks)


def _reason(error: Exception) -> str:
    """Say why a query failed; where an answer has another shape, Python's own words say too little."""
    if isinstance(error, LookupError | TypeError | AttributeError | RecursionError):
        return "its answer has another form: is it an Injective node of this release?"
    return str(error) or repr(error)
