"""The chain's own record of trades and book changes, read apart from the product's decoders."""

import base64
import json
import urllib.request
from typing import Any, Final, NamedTuple

from collector.verify import amounts, block_results

_BOOKS: Final = "injective.exchange.v2.EventOrderbookUpdate"


class Recorded(NamedTuple):
    """What one block did."""

    trades: dict[str, tuple[str, ...]]
    """Fields of each trade by its id, the market's id first."""
    changes: dict[tuple[str, int], tuple[frozenset[Any], frozenset[Any]]]
    """Bids and asks that changed, by market id and sequence."""


def newest(rpc: str) -> int:
    """Ask a node for its newest height."""
    with urllib.request.urlopen(f"{rpc}/status", timeout=30) as answer:
        return int(json.load(answer)["result"]["sync_info"]["latest_block_height"])


def block(rpc: str, height: int) -> Recorded:
    """Ask a node for the record of one block."""
    with urllib.request.urlopen(f"{rpc}/block_results?height={height}", timeout=30) as answer:
        result = json.load(answer)["result"]
    trades = {t.trade_id: (t.market_id, *t.fields) for t in block_results.trades(result)}
    events = [*(result.get("finalize_block_events") or ())]
    for transaction in result.get("txs_results") or ():
        events += transaction.get("events") or ()
    changes = {}
    for event in events:
        if event["type"] != _BOOKS:
            continue
        for attribute in event["attributes"]:
            if attribute["key"] in ("spot_updates", "derivative_updates"):
                for update in json.loads(attribute["value"]) or ():
                    book = update["orderbook"]
                    market_id = "0x" + base64.b64decode(book["market_id"]).hex()
                    sides = (_side(book.get("buy_levels")), _side(book.get("sell_levels")))
                    changes[market_id, int(update["seq"])] = sides
    return Recorded(trades, changes)


def _side(levels: list[dict[str, str]] | None) -> frozenset[tuple[str, str]]:
    return frozenset(
        (amounts.amount(x["p"]), amounts.amount(x.get("q", "0"))) for x in levels or ()
    )
