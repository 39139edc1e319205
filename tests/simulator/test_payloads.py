"""The payloads that benches measure are what the decoders expect."""

from shards.adapters.injective_chain import block_results, ws_decoder
from shards.adapters.messages import INJECTIVE
from shards.protocol.events import Block
from tests.simulator import payloads

STREAM = INJECTIVE.package("injective.stream.v2")


def test_one_update_has_as_many_levels_as_asked_for() -> None:
    _, block = ws_decoder.decode(payloads.one_update_payload(16))
    assert isinstance(block, Block)
    assert [len(u.bids) + len(u.asks) for u in block.updates] == [16]


def test_an_empty_payload_has_nothing_in_it() -> None:
    request_id, block = ws_decoder.decode(payloads.empty_payload())
    assert isinstance(block, Block)
    assert (request_id, block.trades, block.updates) == (1, [], [])


def test_a_market_s_payloads_follow_one_another() -> None:
    exchange = payloads.busy_exchange(3, matches=2.0)
    heard = [ws_decoder.decode(p)[1] for p in payloads.market_payloads(exchange, 10, market=1)]
    truth = [exchange.block(exchange.height - 9 + n) for n in range(10)]
    for block, true in zip(heard, truth, strict=True):
        assert isinstance(block, Block)
        assert block.height == true.height
        assert block.updates == [true.update_of[exchange.markets[1].market_id]]
        trades = true.trades_of.get(exchange.markets[1].market_id, [])
        assert [trade for _, trade in block.trades] == trades


def test_a_shard_hears_each_block_once_per_market() -> None:
    exchange = payloads.busy_exchange(30, matches=5.0)
    for said in payloads.shard_payloads(exchange, 5):
        decoded = [ws_decoder.decode(payload) for payload in said]
        assert [request_id for request_id, _ in decoded] == list(range(1, 31))
        assert len({block.height for _, block in decoded if isinstance(block, Block)}) == 1


def test_block_results_and_stream_tell_the_same_block() -> None:
    exchange = payloads.busy_exchange(10, matches=5.0)
    made = exchange.next_block()
    replayed = block_results.decode(
        payloads.block_results_payload(exchange, made), made.time_ms * 1_000_000
    )
    assert replayed.trades == made.truth.trades
    assert {u.market_id: u for u in replayed.updates} == made.update_of
    filter_ = payloads.market_filter(exchange.markets[0])
    raw = payloads.stream_payload(exchange, made, filter_)
    assert STREAM.StreamResponse.FromString(raw).block_height == made.height
