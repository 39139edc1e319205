"""
Commands to a running simulator, one JSON object a line, each answered by one.

A fault is injected as it is (`faults`); everything else is a question:

    {"fault": "mute", "market": "INJ0000/USDT", "after": 3}     {"ok": 1019}   the height now
    {"ask": "head"}                                             {"ok": 1020}
    {"ask": "block", "height": 1018}                            {"ok": {…}}    the truth
    {"ask": "book", "market": "INJ0000/USDT", "height": 1018}   {"ok": {…}}    0 is now
    {"ask": "pause", "market": "INJ0000/USDT"}                  {"ok": {…}}    or "resume"
    {"ask": "list"}                                             {"ok": {…}}    a new market
    {"ask": "delist", "market": "INJ0000/USDT"}                 {"ok": {…}}    "resume" undoes it
    {"ask": "count again", "market": "INJ0000/USDT"}            {"ok": {…}}    its book's sequence
    {"ask": "begin again", "seed": 2}                           {"ok": 1}      another chain; "first"
    {"ask": "asked"}                                            {"ok": {…}}    block results, by height
    {"ask": "stats"}                                            {"ok": {…}}
    {"ask": "heal"}                                             {"ok": 1021}   ends all faults
"""

from typing import Any, Final

import msgspec

from shards.protocol.events import Block
from tests.simulator import faults
from tests.simulator.exchange import SimBlock
from tests.simulator.markets import Status
from tests.simulator.venue import Venue, describe

_fault: Final = msgspec.json.Decoder(faults.Fault)


async def execute(venue: Venue, line: bytes) -> bytes:
    """Do what a line says and return the answer; never raises for what a line may say."""
    try:
        answer = {"ok": await _execute(venue, line)}
    except (msgspec.MsgspecError, KeyError, ValueError, TypeError) as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    return msgspec.json.encode(answer)


async def _execute(venue: Venue, line: bytes) -> Any:
    command: dict[str, Any] = msgspec.json.decode(line)
    if "fault" in command:
        await venue.inject(_fault.decode(line))
        return venue.exchange.height
    exchange = venue.exchange
    match command["ask"]:
        case "head":
            return exchange.height
        case "block":
            return truth(exchange.block(int(command["height"])))
        case "book":
            market = exchange.market(command["market"])
            return exchange.book_at(market.market_id, int(command.get("height", 0)))
        case "list":
            return describe(exchange.list_market(command.get("ticker")))
        case "pause" | "resume" as verb:
            status: Status = "Paused" if verb == "pause" else "Active"
            return describe(exchange.set_status(command["market"], status))
        case "delist":
            return describe(exchange.set_status(command["market"], "Demolished"))
        case "count again":
            return describe(exchange.count_again(command["market"]))
        case "begin again":
            await venue.begin_again(
                int(command["seed"]),
                float(command.get("away_s", 0.0)),
                int(command.get("first", 1)),
            )
            return exchange.height
        case "stats":
            return stats(venue)
        case "asked":
            return {str(height): times for height, times in venue.rpc.asked.items()}
        case "heal":
            venue.heal()
            return exchange.height
        case other:
            raise ValueError(f"cannot be asked: {other}")


def truth(block: SimBlock) -> Block:
    """Return what is written and answered as the truth of a block."""
    return block.truth


def stats(venue: Venue) -> dict[str, int]:
    """Count what the servers did."""
    return {
        "height": venue.exchange.height,
        "ws_connections": len(venue.ws.connections),
        "ws_subscriptions": venue.ws.subscriptions,
        "ws_messages": venue.ws.messages_sent,
        "ws_evicted": venue.ws.evicted,
        "stream_calls": len(venue.stream.calls),
        "stream_messages": venue.stream.messages_sent,
        "stream_evicted": venue.stream.evicted,
        "indexer_calls": len(venue.indexer.calls),
        "indexer_messages": venue.indexer.messages_sent,
        "queries": venue.queries.queries,
        "queries_refused": venue.queries.refused,
        "queries_ms": venue.queries.took_ms,
    }
