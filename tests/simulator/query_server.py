"""The chain's gRPC queries over a socket: pinned heights in and out, 20 levels by default."""

import asyncio
import time
from typing import Any, Final

import grpc

from shards.adapters.messages import INJECTIVE
from shards.protocol.events import Snapshot
from tests.simulator import chain_proto, faults
from tests.simulator.events_json import hash_text
from tests.simulator.exchange import Exchange
from tests.simulator.grpc_serving import GrpcServer, Handlers, sent, unary
from tests.simulator.mischief import Mischief

HEIGHT: Final = "x-cosmos-block-height"
_SERVICE: Final = "injective.exchange.v2.Query"
_COSMOS: Final = "cosmos.base.tendermint.v1beta1.Service"
_cosmos: Final[Any] = INJECTIVE.package("cosmos.base.tendermint.v1beta1")


class QueryServer(GrpcServer):
    """``injective.exchange.v2.Query`` of one exchange."""

    protocol = "grpc"

    def __init__(self, exchange: Exchange, mischief: Mischief, chain_id: str) -> None:
        super().__init__(mischief)
        self._exchange = exchange
        self._chain_id = chain_id
        self.queries = 0
        self.took_ms = 0
        """From the first query to the last."""
        self._first_at = 0.0

    def handlers(self) -> Handlers:
        """Return the queries that the collector makes."""
        query = chain_proto.query
        return {
            _SERVICE: {
                "SpotMarkets": unary(self._spot_markets, query.QuerySpotMarketsRequest),
                "FullSpotMarkets": unary(self._full_spot, query.QueryFullSpotMarketsRequest),
                "AggregateMarketVolumes": unary(
                    self._volumes, query.QueryAggregateMarketVolumesRequest
                ),
                "DerivativeMarkets": unary(self._derivatives, query.QueryDerivativeMarketsRequest),
                "BinaryOptionsMarkets": unary(self._binaries, query.QueryBinaryMarketsRequest),
                "SpotOrderbook": unary(self._spot_book, query.QuerySpotOrderbookRequest),
                "DerivativeOrderbook": unary(
                    self._derivative_book, query.QueryDerivativeOrderbookRequest
                ),
            },
            _COSMOS: {
                "GetNodeInfo": unary(self._node_info, _cosmos.GetNodeInfoRequest),
                "GetBlockByHeight": unary(self._block, _cosmos.GetBlockByHeightRequest),
            },
        }

    async def _node_info(self, request: Any, context: Any) -> Any:
        await self._answered_at(context, counts=False)
        answer = _cosmos.GetNodeInfoResponse()
        answer.default_node_info.network = self._chain_id
        return answer

    async def _block(self, request: Any, context: Any) -> Any:
        head = await self._answered_at(context, counts=False)
        exchange, height = self._exchange, request.height
        if not exchange.oldest <= height <= head:
            await self._invalid(context, f"18: requested block height {height}")
        answer = _cosmos.GetBlockByHeightResponse()
        answer.block_id.hash = bytes.fromhex(hash_text(height, f"block {exchange.chain}"))
        header = answer.sdk_block.header
        header.chain_id, header.height = self._chain_id, height
        header.time.FromMilliseconds(exchange.block(height).time_ms)
        return answer

    async def _spot_markets(self, request: Any, context: Any) -> Any:
        await self._answered_at(context)
        return chain_proto.spot_markets(self._exchange, request)

    async def _full_spot(self, request: Any, context: Any) -> Any:
        height = await self._answered_at(context)
        return chain_proto.full_spot_markets(self._exchange, request, height)

    async def _derivatives(self, request: Any, context: Any) -> Any:
        height = await self._answered_at(context)
        return chain_proto.derivative_markets(self._exchange, request, height)

    async def _volumes(self, request: Any, context: Any) -> Any:
        height = await self._answered_at(context)
        return chain_proto.volumes(self._exchange, request, height)

    async def _binaries(self, request: Any, context: Any) -> Any:
        await self._answered_at(context)
        return chain_proto.binary_markets(self._exchange, request)

    async def _spot_book(self, request: Any, context: Any) -> Any:
        return await self._book(request, context, chain_proto.query.QuerySpotOrderbookResponse)

    async def _derivative_book(self, request: Any, context: Any) -> Any:
        response = chain_proto.query.QueryDerivativeOrderbookResponse
        return await self._book(request, context, response)

    async def _book(self, request: Any, context: Any, response: Any) -> Any:
        height = await self._answered_at(context)
        market_id = chain_proto.book_id(request.market_id)
        book: Snapshot | None = None
        if market_id in self._exchange.by_id:
            book = self._exchange.book_at(market_id, height)
        slow = self.mischief.find(faults.SlowSnapshot, self.protocol)
        if slow:
            await asyncio.sleep(slow.delay_s)
        return chain_proto.orderbook(response, book, request.limit)

    async def _answered_at(self, context: Any, *, counts: bool = True) -> int:
        """Admit a call, say the height it is answered at, and return that."""
        await self.admit(context)
        self.queries += counts
        now = time.monotonic()
        self._first_at = self._first_at or now
        self.took_ms = int(1_000 * (now - self._first_at))
        head = self._exchange.height - self._behind(context)
        asked = sent(context, HEIGHT) or "0"
        try:
            height = int(asked) or head
        except ValueError:
            height = -1
        if height < 0:
            reason = f'invalid height header "{HEIGHT}": "{asked}"'
            await self._invalid(
                context, f"18: invalid request: Baseapp.RegisterGRPCServer: {reason}"
            )
        if height > head:
            future = "cannot query with height in the future; please provide a valid height"
            await self._invalid(context, f"26: invalid height: {future}")
        pruned = self.mischief.find(faults.PrunedStates, self.protocol)
        oldest = head - pruned.kept + 1 if pruned else self._exchange.oldest - 1
        if height < oldest:
            gone = f"failed to load state at height {height}; version does not exist"
            await self._invalid(context, f"38: not found: {gone} (latest height: {head})")
        await context.send_initial_metadata([(HEIGHT, str(height)), *self.set_cookie()])
        return height

    async def _invalid(self, context: Any, reason: str) -> None:
        await context.abort(grpc.StatusCode.UNKNOWN, f"codespace sdk code {reason}")

    def _behind(self, context: Any) -> int:
        """How far the backend that this call lands on is behind."""
        stale = self.mischief.find(faults.StaleSnapshot, self.protocol)
        moved = self.mischief.find(faults.CookieChange, self.protocol)
        behind = stale.behind if stale else 0
        if moved and self.cookie() not in sent(context, "cookie"):
            behind = max(behind, moved.behind)
        return min(behind, self._exchange.height - self._exchange.oldest + 1)
