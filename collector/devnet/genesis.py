"""Turn the genesis that `injectived init` writes into one with markets, money and a validator."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from collector.devnet.accounts import Account, bech32, module_address
from collector.devnet.markets import Market

Json = dict[str, Any]

_STAKE = 10**24
_DEPOSIT = 10**36
"""Of every quote and base token, for every trading subaccount: more than a run can lose."""
_FEES = 10**27
_EMPTY_CODE_HASH = "xdJGAYb3IzySfn2y3McDwOUAtlPKgic7e/rYBF2FpHA="
_MARGIN = {"initial_margin_ratio": "0.05", "maintenance_margin_ratio": "0.02"}
_RELEASED = {"admin": "", "admin_permissions": 0}
_FEE_RATES = {
    "maker_fee_rate": "-0.0001",
    "taker_fee_rate": "0.001",
    "relayer_fee_share_rate": "0.4",
}


def build_genesis(
    base: Json, *, markets: Sequence[Market], accounts: Sequence[Account], validator_key: str
) -> Json:
    """
    Fill in `base`, the node's own default genesis, and return it.

    `validator_key` is the base64 public key of the only validator. The last account relays the
    oracle's prices, the others trade.
    """
    state = base["app_state"]
    traders, relayer = accounts[:-1], accounts[-1]
    now = int(datetime.fromisoformat(base["genesis_time"][:19]).replace(tzinfo=UTC).timestamp())
    _use_inj(state)
    _raise_limits(base)
    _list_markets(state["exchange"], markets, now)
    _price_perpetuals(state, markets, relayer, now)
    _deposit(state["exchange"], markets, traders)
    _validate(state, traders[0], validator_key)
    _account_for_it(state, accounts)
    return base


def _use_inj(state: Json) -> None:
    state["staking"]["params"]["bond_denom"] = "inj"
    state["mint"]["params"]["mint_denom"] = "inj"
    state["crisis"]["constant_fee"]["denom"] = "inj"
    for deposit in ("min_deposit", "expedited_min_deposit"):
        state["gov"]["params"][deposit][0]["denom"] = "inj"
    # The validator's account alone decides; it need not wait for others.
    state["gov"]["params"] |= {"voting_period": "5s", "expedited_voting_period": "4s"}


def _raise_limits(base: Json) -> None:
    # One transaction carries the orders of one account and block; the stock limit of 30 M gas is
    # about 40 orders, and the stock block limit less.
    base["consensus"]["params"]["block"]["max_gas"] = "-1"
    # No block is pruned that a validator could still be accused by; here nobody accuses anybody.
    base["consensus"]["params"]["evidence"] |= {
        "max_age_num_blocks": "100",
        "max_age_duration": "60000000000",
    }
    fees = base["app_state"]["txfees"]["params"]
    fees["max_gas_wanted_per_tx"] = fees["high_gas_tx_threshold"] = "10000000000"
    exchange = base["app_state"]["exchange"]["params"]
    exchange["max_derivative_order_side_count"] = 1000
    # A new chain looks like one that has been down since 1970, which would allow nothing but
    # post-only orders for its first thousand blocks.
    exchange["post_only_mode_blocks_amount_after_downtime"] = "0"


def _list_markets(exchange: Json, markets: Iterable[Market], now: int) -> None:
    params = exchange["params"]
    for market in markets:
        if market.type == "spot":
            exchange["spot_markets"].append(_spot(market))
            continue
        exchange["derivative_markets"].append(_perpetual(market))
        interval = int(params["default_funding_interval"])
        exchange["perpetual_market_info"].append(
            {
                "market_id": market.market_id,
                "hourly_funding_rate_cap": params["default_hourly_funding_rate_cap"],
                "hourly_interest_rate": params["default_hourly_interest_rate"],
                "next_funding_timestamp": str(now - now % interval + interval),
                "funding_interval": str(interval),
            }
        )
        funding = {"cumulative_funding": "0", "cumulative_price": "0", "last_timestamp": str(now)}
        exchange["perpetual_market_funding_state"].append(
            {"market_id": market.market_id, "funding": funding}
        )


def _listing(market: Market) -> Json:
    return {
        "ticker": market.ticker,
        "market_id": market.market_id,
        "status": "Paused" if market.paused else "Active",
        "quote_denom": market.quote,
        "quote_decimals": market.quote_decimals,
        "min_price_tick_size": f"{market.price_tick:f}",
        "min_quantity_tick_size": f"{market.quantity_tick:f}",
        "min_notional": f"{market.min_notional:f}",
        **_FEE_RATES,
        **_RELEASED,
    }


def _spot(market: Market) -> Json:
    return {**_listing(market), "base_denom": market.base, "base_decimals": market.base_decimals}


def _perpetual(market: Market) -> Json:
    return {
        **_listing(market),
        **_MARGIN,
        "reduce_margin_ratio": "0.08",
        "oracle_base": market.base,
        "oracle_quote": market.quote,
        "oracle_type": "PriceFeed",
        "oracle_scale_factor": 0,
        "isPerpetual": True,
        "open_notional_cap": {"uncapped": {}},
    }


def _price_perpetuals(state: Json, markets: Iterable[Market], relayer: Account, now: int) -> None:
    perpetuals = [market for market in markets if market.type == "derivative"]
    prices = {(m.base, m.quote): f"{m.mid * m.price_tick:f}" for m in perpetuals}
    for (base, quote), price in prices.items():
        state["oracle"]["price_feed_price_states"].append(
            {
                "base": base,
                "quote": quote,
                "price_state": {"price": price, "cumulative_price": "0", "timestamp": str(now)},
                "relayers": [relayer.address],
            }
        )
    insurance = state["insurance"]
    for number, market in enumerate(perpetuals, start=1):
        insurance["insurance_funds"].append(_fund(market, number))
    insurance["next_share_denom_id"] = str(len(perpetuals) + 1)


def _fund(market: Market, number: int) -> Json:
    return {
        "deposit_denom": market.quote,
        "insurance_pool_token_denom": f"share{number}",
        "redemption_notice_period_duration": "1209600s",
        "balance": str(10**15),
        "total_share": str(10**18),
        "market_id": market.market_id,
        "market_ticker": market.ticker,
        "oracle_base": market.base,
        "oracle_quote": market.quote,
        "oracle_type": "PriceFeed",
        "expiry": "-2",
    }


def _deposit(exchange: Json, markets: Iterable[Market], traders: Iterable[Account]) -> None:
    bases = {market.base for market in markets if market.type == "spot"}
    denoms = sorted(bases | {market.quote for market in markets})
    exchange["balances"] = [
        {
            "subaccount_id": trader.subaccount_id,
            "denom": denom,
            "deposits": {"available_balance": str(_DEPOSIT), "total_balance": str(_DEPOSIT)},
        }
        for trader in traders
        for denom in denoms
    ]


def _validate(state: Json, operator: Account, key: str) -> None:
    """
    Register the validator, unbonded: the chain bonds it at its start.

    Writing it as bonded would take the books of five modules to be written with it.
    """
    valoper = bech32(operator.ethereum, prefix="injvaloper")
    validator = {
        "operator_address": valoper,
        "consensus_pubkey": {"@type": "/cosmos.crypto.ed25519.PubKey", "key": key},
        "status": "BOND_STATUS_UNBONDED",
        "tokens": str(_STAKE),
        "delegator_shares": f"{_STAKE}.0",
        "description": {"moniker": "devnet"},
        "unbonding_time": "1970-01-01T00:00:00Z",
        "commission": {
            "commission_rates": {"rate": "0.1", "max_rate": "0.2", "max_change_rate": "0.01"},
            "update_time": "1970-01-01T00:00:00Z",
        },
        "min_self_delegation": "1",
    }
    delegation = {
        "delegator_address": operator.address,
        "validator_address": valoper,
        "shares": f"{_STAKE}.0",
    }
    state["staking"]["validators"] = [validator]
    state["staking"]["delegations"] = [delegation]


def _account_for_it(state: Json, accounts: Iterable[Account]) -> None:
    """Give the bank what the other modules say they hold."""
    held: dict[str, Counter[str]] = {
        module_address("exchange"): Counter(),
        module_address("insurance"): Counter(),
        module_address("not_bonded_tokens_pool"): Counter(inj=_STAKE),
    }
    for balance in state["exchange"]["balances"]:
        amount = int(balance["deposits"]["total_balance"])
        held[module_address("exchange")][balance["denom"]] += amount
    for fund in state["insurance"]["insurance_funds"]:
        held[module_address("insurance")][fund["deposit_denom"]] += int(fund["balance"])
    for account in accounts:
        held[account.address] = Counter(inj=_FEES)
        state["auth"]["accounts"].append(_ethereum_account(account))
    state["bank"]["balances"] = [
        {
            "address": address,
            "coins": [{"denom": d, "amount": str(coins[d])} for d in sorted(coins)],
        }
        for address, coins in held.items()
    ]


def _ethereum_account(account: Account) -> Json:
    return {
        "@type": "/injective.types.v1beta1.EthAccount",
        "base_account": {
            "address": account.address,
            "pub_key": None,
            "account_number": str(account.number),
            "sequence": "0",
        },
        "code_hash": _EMPTY_CODE_HASH,
    }
