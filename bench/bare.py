"""The floor of decoding: msgspec decodes the node's fields, and nothing is done with them."""

from typing import Final

import msgspec


class _Level(msgspec.Struct, gc=False):
    p: str
    q: str = ""


class _Book(msgspec.Struct, gc=False):
    market_id: str
    buy_levels: list[_Level] | None = None
    sell_levels: list[_Level] | None = None


class _Update(msgspec.Struct, gc=False):
    orderbook: _Book
    seq: int = 0


class _Trade(msgspec.Struct, gc=False):
    market_id: str
    trade_id: str
    quantity: str = ""
    price: str = ""
    subaccount_id: str = ""
    fee: str = ""
    order_hash: str = ""


class _Block(msgspec.Struct, gc=False):
    block_height: int
    block_time: int
    spot_trades: list[_Trade] | None = None
    derivative_trades: list[_Trade] | None = None
    spot_orderbook_updates: list[_Update] | None = None
    derivative_orderbook_updates: list[_Update] | None = None

    @property
    def updates(self) -> int:
        """How many books changed."""
        return len(self.spot_orderbook_updates or ()) + len(self.derivative_orderbook_updates or ())


class _Message(msgspec.Struct, gc=False):
    id: int = -1
    result: _Block | str | None = None


decode: Final = msgspec.json.Decoder(_Message, strict=False).decode


def updates_in(message: _Message) -> int:
    """Return the number of book updates in a message; 0 for an answer to a request."""
    result = message.result
    return result.updates if isinstance(result, _Block) else 0
