"""The chain stream's filters: the same over its WebSocket and over gRPC."""

from collections.abc import Collection, Iterable
from typing import Final, TypeAlias

from shards.protocol.channels import BOOKS
from shards.protocol.settings import Market

Filters: TypeAlias = dict[str, dict[str, list[str]]]

_EVERY: Final = ["*"]
"""The node reads this as "all" only if it is the first element."""
_NO_SYMBOL: Final = ["-"]


def filters(markets: Iterable[Market], channels: Collection[str]) -> Filters:
    """
    Return the filters of one subscription to some markets, by the request's own field names.

    An omitted filter means none of that kind; the node refuses a request without any. If only
    the blocks themselves are wanted, one filter is set that matches nothing.
    """
    found: Filters = {}
    by_kind: dict[str, list[str]] = {}
    for market in markets:
        if market.type == "chain":
            if "oracle" in channels:
                found["oracle_price_filter"] = {"symbol": _EVERY}
        else:
            # Binary options are streamed with the derivatives.
            kind = "spot" if market.type == "spot" else "derivative"
            by_kind.setdefault(kind, []).append(market.market_id)
    for kind, ids in by_kind.items():
        if not BOOKS.isdisjoint(channels):
            found[f"{kind}_orderbooks_filter"] = {"market_ids": ids}
        if "trades" in channels:
            found[f"{kind}_trades_filter"] = {"market_ids": ids, "subaccount_ids": _EVERY}
        if "orders" in channels:
            found[f"{kind}_orders_filter"] = {"market_ids": ids, "subaccount_ids": _EVERY}
    return found or {"oracle_price_filter": {"symbol": _NO_SYMBOL}}
