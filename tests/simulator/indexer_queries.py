"""
The indexer's unary answers: markets, books, past trades.

Each service has its own generated classes of the same shapes; `Service` names the ones of
spot or of derivatives, which serve binary options as well.
"""

from collections.abc import Iterator
from typing import Any, Final

from shards.adapters.messages import INJECTIVE
from shards.protocol.events import Level, Snapshot, Trade
from tests.simulator import indexer_proto
from tests.simulator.amounts import in_token_units
from tests.simulator.chain_proto import QUOTE
from tests.simulator.exchange import Exchange, SimBlock
from tests.simulator.markets import SimMarket

PAGE: Final = 100
"""Trades of an answer where no limit is given; what the real one does is not known."""


class Service:
    """One of the two exchange services."""

    def __init__(self, exchange: Exchange, *, spot: bool) -> None:
        name = "spot" if spot else "derivative"
        self.pb: Any = INJECTIVE.package(f"injective_{name}_exchange_rpc")
        self.name = f"injective_{name}_exchange_rpc.Injective{name.title()}ExchangeRPC"
        self.spot = spot
        self.exchange = exchange
        self._book: Any = getattr(self.pb, f"{name.title()}LimitOrderbookV2")
        self._trade: Any = getattr(self.pb, f"{name.title()}Trade")

    def has(self, market_id: str) -> bool:
        """Say whether a market is served here."""
        market = self.exchange.by_id.get(market_id)
        return market is not None and market.is_spot is self.spot

    def markets(self, request: Any) -> Any:
        """Answer ``Markets``; statuses are in lower case."""
        wanted = [*request.market_statuses, *filter(None, [request.market_status])]
        found = [
            market
            for market in self.exchange.markets
            if market.type == ("spot" if self.spot else "derivative")
            and (not wanted or market.status.lower() in wanted)
        ]
        describe = self._spot_info if self.spot else self._derivative_info
        return self.pb.MarketsResponse(markets=[describe(market) for market in found])

    def binary_markets(self, request: Any) -> Any:
        """Answer ``BinaryOptionsMarkets``, which alone is paged."""
        found = [
            market
            for market in self.exchange.markets
            if market.type == "binary" and request.market_status in ("", market.status.lower())
        ]
        page = found[request.skip :][: request.limit or PAGE]
        infos = [
            self.pb.BinaryOptionsMarketInfo(
                oracle_symbol=market.kind.base,
                oracle_provider="simulator",
                oracle_type="provider",
                expiration_timestamp=1_830_000_000,
                settlement_timestamp=1_830_086_400,
                **self._common(market),
            )
            for market in page
        ]
        paging = _paging(self.pb, len(found), request.skip, len(page))
        return self.pb.BinaryOptionsMarketsResponse(markets=infos, paging=paging)

    def _common(self, market: SimMarket) -> dict[str, Any]:
        tick = in_token_units(market.price(1), market.price_shift)
        return {
            "market_id": market.market_id,
            "market_status": market.status.lower(),
            "ticker": market.ticker,
            "quote_denom": QUOTE,
            "quote_token_meta": self._token("USDT", market.quote_decimals),
            "maker_fee_rate": "-0.0001",
            "taker_fee_rate": "0.001",
            "service_provider_fee": "0.4",
            "min_price_tick_size": tick,
            "min_quantity_tick_size": in_token_units(market.quantity(1), market.quantity_shift),
            "min_notional": str(10**market.quote_decimals),
        }

    def _token(self, symbol: str, decimals: int) -> Any:
        return self.pb.TokenMeta(
            name=symbol, address="0x" + "0" * 40, symbol=symbol, decimals=decimals
        )

    def _spot_info(self, market: SimMarket) -> Any:
        kind = market.kind
        return self.pb.SpotMarketInfo(
            base_denom=f"peggy0x{market.market_id[2:42]}",
            base_token_meta=self._token(kind.base, kind.base_decimals),
            **self._common(market),
        )

    def _derivative_info(self, market: SimMarket) -> Any:
        return self.pb.DerivativeMarketInfo(
            oracle_base=market.kind.base,
            oracle_quote="USDT",
            oracle_type="pricefeed",
            initial_margin_ratio="0.05",
            maintenance_margin_ratio="0.02",
            reduce_margin_ratio="0.08",
            is_perpetual=True,
            **self._common(market),
        )

    def book(self, market_id: str, depth: int, height: int = 0) -> Any:
        """Return a whole book, or so many levels a side, after a block; 0 is now."""
        market = self.exchange.by_id[market_id]
        book: Snapshot = self.exchange.book_at(market_id, height)
        time_ms = self.exchange.changed_ms(market_id)
        end = depth or None
        return self._book(
            buys=self._levels(market, book.bids[:end], time_ms),
            sells=self._levels(market, book.asks[:end], time_ms),
            sequence=book.sequence,
            timestamp=time_ms,
            height=book.height,
        )

    def _levels(self, market: SimMarket, levels: list[Level], time_ms: int) -> list[Any]:
        return [
            self.pb.PriceLevel(
                price=in_token_units(price, market.price_shift),
                quantity=in_token_units(quantity, market.quantity_shift),
                timestamp=time_ms,
            )
            for price, quantity in levels
        ]

    def orderbooks(self, request: Any, height: int) -> Any:
        """Answer ``OrderbooksV2`` as of a block; ids that are not known are left out."""
        ids = list(request.market_ids) or [m.market_id for m in self.exchange.markets]
        kind = "Spot" if self.spot else "Derivative"
        single = getattr(self.pb, f"Single{kind}LimitOrderbookV2")
        return self.pb.OrderbooksV2Response(
            orderbooks=[
                single(market_id=market_id, orderbook=self.book(market_id, request.depth, height))
                for market_id in ids
                if self.has(market_id)
            ]
        )

    def trades(self, request: Any, height: int) -> Any:
        """Answer ``TradesV2`` as of a block: the newest first, of all that is kept."""
        found = [
            (market, trade, block.time_ms)
            for block in self._kept(request.start_time, request.end_time, height)
            for market_id, trade in reversed(block.trades)
            if self.has(market_id) and takes(request, market_id, trade)
            for market in [self.exchange.by_id[market_id]]
        ]
        page = found[request.skip :][: request.limit or PAGE]
        write = indexer_proto.spot_trade if self.spot else indexer_proto.derivative_trade
        return self.pb.TradesV2Response(
            trades=[self._trade.FromString(write(*one)) for one in page],
            paging=_paging(self.pb, len(found), request.skip, len(page)),
        )

    def _kept(self, start_ms: int, end_ms: int, newest: int) -> Iterator[SimBlock]:
        """Give the kept blocks of a time, the newest first; both ends belong to it."""
        exchange = self.exchange
        for height in range(newest, exchange.oldest - 1, -1):
            block = exchange.block(height)
            if start_ms and block.time_ms < start_ms:
                return
            if not end_ms or block.time_ms <= end_ms:
                yield block


def takes(request: Any, market_id: str, trade: Trade) -> bool:
    """Say whether a trade is what a request for trades, or for a stream of them, asks for."""
    markets = [*request.market_ids, *filter(None, [request.market_id])]
    subaccounts = [*request.subaccount_ids, *filter(None, [request.subaccount_id])]
    kind = indexer_proto.camel(trade.execution_type)
    return (
        (not markets or market_id in markets)
        and (not subaccounts or trade.subaccount_id in subaccounts)
        and request.execution_side in ("", indexer_proto.execution_side(trade))
        and request.direction in ("", trade.side)
        and request.trade_id in ("", trade.trade_id)
        and request.cid in ("", trade.cid)
        and (not request.execution_types or kind in request.execution_types)
    )


def _paging(pb: Any, total: int, skipped: int, count: int) -> Any:
    # As in the samples, the first is number 1. ("from" is a word of Python.)
    return pb.Paging(total=total, to=skipped + count, **{"from": skipped + 1 if count else 0})
