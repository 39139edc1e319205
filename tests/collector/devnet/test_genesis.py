"""The genesis adds up: the chain checks it too, but says so with a stack trace."""

import copy
from collections import Counter

from collector.devnet.accounts import accounts, module_address
from collector.devnet.genesis import build_genesis
from collector.devnet.markets import market_table


def empty_genesis():
    """Give the parts of the node's own default genesis that are filled in."""
    exchange = {
        "params": {
            "default_funding_interval": "3600",
            "default_hourly_funding_rate_cap": "0.000625",
            "default_hourly_interest_rate": "0.0000041666",
        }
    }
    lists = ("spot_markets", "derivative_markets", "perpetual_market_info",
             "perpetual_market_funding_state", "balances")  # fmt: skip
    state = {
        "auth": {"accounts": []},
        "bank": {"balances": []},
        "crisis": {"constant_fee": {"denom": "stake"}},
        "exchange": {**exchange, **{name: [] for name in lists}},
        "gov": {"params": {"min_deposit": [{}], "expedited_min_deposit": [{}]}},
        "insurance": {"insurance_funds": []},
        "mint": {"params": {}},
        "oracle": {"price_feed_price_states": []},
        "staking": {"params": {}},
        "txfees": {"params": {}},
    }
    consensus = {"params": {"block": {"max_gas": "1"}, "evidence": {}}}
    return {
        "genesis_time": "2026-01-02T03:04:05.123456789Z",
        "consensus": consensus,
        "app_state": state,
    }


def built(**numbers):
    return build_genesis(
        copy.deepcopy(empty_genesis()),
        markets=market_table(**numbers),
        accounts=accounts(),
        validator_key="a2V5",
    )["app_state"]


def test_every_market_is_listed_active_with_plain_decimals():
    exchange = built(spot=12, perp=4)["exchange"]
    listed = [*exchange["spot_markets"], *exchange["derivative_markets"]]
    assert len(exchange["spot_markets"]) == 12
    assert len(exchange["derivative_markets"]) == 4
    for market in listed:
        assert market["status"] == "Active"
        assert "E" not in market["min_price_tick_size"] + market["min_quantity_tick_size"]


def test_every_perpetual_has_price_fund_and_funding():
    state = built(spot=0, perp=80)
    ids = {market["market_id"] for market in state["exchange"]["derivative_markets"]}
    assert {info["market_id"] for info in state["exchange"]["perpetual_market_info"]} == ids
    assert {f["market_id"] for f in state["exchange"]["perpetual_market_funding_state"]} == ids
    assert {fund["market_id"] for fund in state["insurance"]["insurance_funds"]} == ids
    feeds = [(p["base"], p["quote"]) for p in state["oracle"]["price_feed_price_states"]]
    assert len(set(feeds)) == len(feeds)
    for market in state["exchange"]["derivative_markets"]:
        assert (market["oracle_base"], market["oracle_quote"]) in feeds


def test_the_bank_holds_what_the_exchange_owes():
    state = built(spot=12, perp=4)
    owed = Counter[str]()
    for balance in state["exchange"]["balances"]:
        owed[balance["denom"]] += int(balance["deposits"]["total_balance"])
    held = {b["address"]: b["coins"] for b in state["bank"]["balances"]}
    coins = held[module_address("exchange")]
    assert {coin["denom"]: int(coin["amount"]) for coin in coins} == owed
    assert [coin["denom"] for coin in coins] == sorted(owed)


def test_funding_is_due_at_the_next_full_hour():
    (info,) = built(spot=0, perp=1)["exchange"]["perpetual_market_info"]
    assert int(info["next_funding_timestamp"]) % 3600 == 0


def test_accounts_are_the_same_every_time():
    assert accounts() == accounts()
    assert len({account.address for account in accounts()}) == len(accounts())
    assert all(account.address.startswith("inj1") for account in accounts())
