"""
A made-up chain whose every trade and every book is known, and its words on the wire.

It is the truth that the property tests compare with: `Chain.blocks` holds all heights from
the start, `payload` says a block as the node's WebSocket does, `snapshot` answers the book
query at any height.
"""

import json
import random
from dataclasses import dataclass, field, replace
from typing import Any

from shards.adapters.injective_chain import ws_decoder
from shards.protocol.events import ZERO, Block, Level, Snapshot
from shards.protocol.settings import Market

FIRST = 100
MARKETS = tuple(
    Market(f"0x{n:064x}", f"M{n}/USDT", f"M{n}-USDT", "spot" if n % 3 else "derivative")
    for n in range(1, 4)
)
IDS = tuple(market.market_id for market in MARKETS)


def text(units: int) -> str:
    """Spell thousandths as the chain prints decimals."""
    return f"{units // 1000}.{units % 1000:03d}000000000000000"


@dataclass
class Depth:
    """One market's book after some block."""

    sequence: int = 0
    bids: dict[str, str] = field(default_factory=dict)
    asks: dict[str, str] = field(default_factory=dict)

    def changed(self, bids: list[Level], asks: list[Level]) -> "Depth":
        """Return the book after one update."""
        return Depth(self.sequence + 1, _changed(self.bids, bids), _changed(self.asks, asks))


def _changed(side: dict[str, str], levels: list[Level]) -> dict[str, str]:
    return {p: q for p, q in (side | dict(levels)).items() if q != ZERO}


class Chain:
    """Blocks from FIRST on, all made in advance."""

    def __init__(self, seed: int, heights: int, *, again: float = 0.0) -> None:
        """``again``: how likely a change is to count its book's changes from the beginning."""
        rng = random.Random(seed)
        self._again = again
        self.blocks: dict[int, dict[str, Any]] = {}
        self.books: dict[int, dict[str, Depth]] = {
            FIRST - 1: {
                m: Depth(200_007 if again else 7, {text(900): text(1)}, {text(1100): text(2)})
                for m in IDS
            }
        }
        for height in range(FIRST, FIRST + heights):
            self._grow(height, rng)

    def _grow(self, height: int, rng: random.Random) -> None:
        trades: list[dict[str, Any]] = []
        updates: list[dict[str, Any]] = []
        books = dict(self.books[height - 1])
        for market_id in IDS:
            for _ in range(rng.choice((0, 0, 1, 2))):
                trades.append(_trade(market_id, f"{height}_{len(trades)}", rng))
            if rng.random() < 0.7:
                bids = [(text(rng.randint(990, 999)), _quantity(rng)) for _ in range(2)]
                asks = [(text(rng.randint(1001, 1010)), _quantity(rng))]
                bids = list(dict(bids).items())
                if self._again and rng.random() < self._again:
                    # Lower each time: two changes of one book never share a number.
                    lower = books[market_id].sequence // 1_000 * 1_000 - 1_000
                    books[market_id] = replace(books[market_id], sequence=lower)
                books[market_id] = book = books[market_id].changed(bids, asks)
                updates.append(_update(market_id, book.sequence, bids, asks))
        rng.shuffle(trades)
        self.books[height] = books
        self.blocks[height] = {"trades": trades, "updates": updates}

    def payload(
        self,
        subscription: int,
        height: int,
        market_ids: tuple[str, ...],
        *,
        with_books: bool = True,
    ) -> bytes:
        """Say a block as one subscription hears it, perhaps one of trades alone."""
        block = self.blocks[height]
        result: dict[str, Any] = {
            "block_height": str(height),
            "block_time": str(height * 500),
            "bank_balances": [],
            "gas_price": "160000000.000000000000000000",
        }
        for market in MARKETS:
            if market.market_id not in market_ids:
                continue
            kind = market.type
            for trade in block["trades"]:
                if trade["market_id"] == market.market_id:
                    said = trade if kind == "spot" else _derivative(trade)
                    result.setdefault(f"{kind}_trades", []).append(said)
            for update in block["updates"] if with_books else ():
                if update["orderbook"]["market_id"] == market.market_id:
                    result.setdefault(f"{kind}_orderbook_updates", []).append(update)
        message = {"jsonrpc": "2.0", "id": subscription, "result": result}
        return json.dumps(message, separators=(",", ":")).encode()

    def whole(self, height: int) -> Block:
        """Return the whole block, as a replay has it."""
        block = ws_decoder.decode(self.payload(0, height, IDS))[1]
        assert isinstance(block, Block)
        return block

    def heights_of(self, market_id: str, sequences: range) -> set[int]:
        """
        Return the blocks that made these changes of a book.

        Empty if its sequence restarted between them. It is lower afterwards, so a reader that comes
        to the higher numbers late received a book from before the restart: it lacks no change.
        """
        found = {books[market_id].sequence: h for h, books in reversed(self.books.items())}
        restarted = any(sequence not in found for sequence in sequences)
        return set() if restarted else {found[sequence] for sequence in sequences}

    def snapshot(self, market_id: str, height: int, *, told: bool = True) -> Snapshot:
        """Answer the book query at a height; an old node does not say which it was."""
        book = self.books[height][market_id]
        return Snapshot(
            market_id,
            height if told else 0,
            book.sequence,
            list(book.bids.items()),
            list(book.asks.items()),
        )

    def trade_ids(self, market_id: str, height: int) -> list[str]:
        """Return the ids of one market's trades in one block, in order."""
        ids = [t["trade_id"] for t in self.blocks[height]["trades"] if t["market_id"] == market_id]
        return sorted(ids, key=lambda trade_id: int(trade_id.partition("_")[2]))


def _quantity(rng: random.Random) -> str:
    return ZERO if rng.random() < 0.4 else text(rng.randint(1, 90_000))


def _trade(market_id: str, trade_id: str, rng: random.Random) -> dict[str, Any]:
    trade: dict[str, Any] = {
        "market_id": market_id,
        "trade_id": trade_id,
        "executionType": "Market",
        "quantity": text(rng.randint(1, 9_000)),
        "price": text(rng.randint(990, 1010)),
    }
    if rng.random() < 0.5:
        trade["is_buy"] = True
    return trade


def _derivative(trade: dict[str, Any]) -> dict[str, Any]:
    rest = {key: value for key, value in trade.items() if key not in ("quantity", "price")}
    delta = {"execution_quantity": trade["quantity"], "execution_price": trade["price"]}
    return rest | {"position_delta": delta, "payout": ZERO}


def _update(market_id: str, sequence: int, bids: list[Level], asks: list[Level]) -> dict[str, Any]:
    orderbook: dict[str, Any] = {"market_id": market_id}
    for name, levels in (("buy_levels", bids), ("sell_levels", asks)):
        if levels:
            orderbook[name] = [{"p": price, "q": quantity} for price, quantity in levels]
    return {"seq": str(sequence), "orderbook": orderbook}
