"""The recorded payloads of tests/golden, and a second reading of them by plain json."""

import base64
import functools
import gzip
import json
from pathlib import Path
from typing import Any

DIRECTORY = Path(__file__).parents[1] / "golden"


def read(name: str) -> Any:
    """Read one golden JSON file."""
    return json.loads((DIRECTORY / name).read_text())


@functools.cache
def orders() -> list[dict[str, Any]]:
    """Read the blocks that were recorded with orders and oracle prices asked for too."""
    with gzip.open(DIRECTORY / "node-v1.20.1-orders.jsonl.gz", "rt") as lines:
        return [line for line in map(json.loads, lines) if line["kind"] == "block"]


@functools.cache
def recording() -> list[dict[str, Any]]:
    """Read all lines recorded from the node."""
    with gzip.open(DIRECTORY / "node-v1.20.1.jsonl.gz", "rt") as lines:
        return [json.loads(line) for line in lines]


def blocks() -> list[dict[str, Any]]:
    """Return the recorded blocks, each as the stream, gRPC and block_results tell it."""
    return [line for line in recording() if line["kind"] == "block"]


def snapshots() -> list[dict[str, Any]]:
    """Return the recorded answers to book queries."""
    return [line for line in recording() if line["kind"] == "snapshot"]


def block_results(line: dict[str, Any]) -> bytes:
    """Put a block's recorded events into an answer as CometBFT's RPC gives it."""
    finalize: list[Any] = []
    transactions: dict[str, list[Any]] = {}
    for event in line["block_results_events"]:
        bare = {"type": event["type"], "attributes": event["attributes"]}
        if event["where"] == "finalize":
            finalize.append(bare)
        else:
            transactions.setdefault(event["where"], []).append(bare)
    result = {
        "height": str(line["height"]),
        "txs_results": [{"code": 0, "events": events} for events in transactions.values()] or None,
        "finalize_block_events": finalize,
        "validator_updates": None,
    }
    return json.dumps({"jsonrpc": "2.0", "id": -1, "result": result}).encode()


def hexadecimal(encoded: str) -> str:
    """Spell base64 bytes as the stream does."""
    return "0x" + base64.b64decode(encoded).hex()


def busiest() -> dict[str, Any]:
    """Return the block with the most in it that has trades."""
    traded = [line for line in blocks() if "spot_trades" in json.loads(line["ws"])["result"]]
    return max(traded, key=lambda line: len(line["ws"]))
