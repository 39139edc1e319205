"""CometBFT's RPC without the socket: ``block_results``, ``header`` and ``status``."""

import functools
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from tests.simulator import faults
from tests.simulator.events_json import block_results, hash_text, time_text
from tests.simulator.exchange import Exchange, SimBlock
from tests.simulator.mischief import Mischief

METHODS: Final = ("health", "status", "header", "block_results")


_NO_RESULTS: Final = {
    "not available": "height {height} is not available, lowest height is 999999999",
    "not persisting": "node is not persisting finalize block responses",
    "not found": "could not find results for height #{height}",
}
"""As CometBFT says it: pruned, discarded by configuration, gone from its store."""


class RpcError(Exception):
    """An error answer: code, message, data."""


class RpcCalls:
    """The calls, without a socket."""

    def __init__(self, exchange: Exchange, mischief: Mischief, chain_id: str) -> None:
        self._exchange = exchange
        self._chain_id = chain_id
        self._mischief = mischief
        self.asked: Counter[int] = Counter()
        """How often the results of each block were asked for."""
        self._results = functools.lru_cache(maxsize=16)(self._block_results)

    def answer(self, request_id: Any, method: str, params: Mapping[str, Any]) -> bytes:
        """Return a whole JSON-RPC answer."""
        head = b'{"jsonrpc":"2.0","id":%b,' % msgspec.json.encode(request_id)
        try:
            return head + b'"result":%b}' % self._result(method, params)
        except RpcError as error:
            code, message, data = error.args
            fields = {"code": code, "message": message} | ({"data": data} if data else {})
            return head + b'"error":%b}' % msgspec.json.encode(fields)

    def forget(self) -> None:
        """Keep no answer."""
        self._results.cache_clear()

    def _hash(self, height: int) -> str:
        return hash_text(height, f"block {self._exchange.chain}")

    @property
    def _head(self) -> int:
        """The newest height of the node that answers."""
        stale = self._mischief.find(faults.StaleSnapshot, "rpc")
        return max(self._exchange.height - (stale.behind if stale else 0), self._exchange.oldest)

    def _result(self, method: str, params: Mapping[str, Any]) -> bytes:
        match method:
            case "health":
                return b"{}"
            case "status":
                return msgspec.json.encode(self._status())
            case "header":
                return msgspec.json.encode({"header": self._header(self._block(params))})
            case "block_results":
                return self._block_results_of(self._block(params).height)
        raise RpcError(-32601, "Method not found", "")

    def _block(self, params: Mapping[str, Any]) -> SimBlock:
        exchange, head = self._exchange, self._head
        asked = str(params.get("height") or head).strip('"')
        if not asked.lstrip("-").isdigit():
            data = "error converting http params to arguments: invalid 64-bit integer encoding"
            raise RpcError(-32602, "Invalid params", f'{data} "{asked}", expected string')
        height = int(asked)
        if height <= 0:
            reason = f"height must be greater than 0, but got {height}"
        elif height > head:
            reason = (
                f"height {height} must be less than or equal to the current "
                f"blockchain height {head}"
            )
        elif height < exchange.oldest:
            reason = f"height {height} is not available, lowest height is {exchange.oldest}"
        else:
            return exchange.block(height)
        raise RpcError(-32603, "Internal error", reason)

    def _block_results_of(self, height: int) -> bytes:
        self.asked[height] += 1
        kept = self._mischief.find(faults.NoResults, "rpc")
        if kept is not None and (not kept.through or height <= kept.through):
            raise RpcError(-32603, "Internal error", _NO_RESULTS[kept.text].format(height=height))
        results = self._results(height)
        huge = self._mischief.find(faults.HugeResults, "rpc")
        if huge is not None and huge.height in (0, height):
            return results[:-1] + b',"padding":"%b"}' % (b"x" * (huge.size - len(results)))
        return results

    def _block_results(self, height: int) -> bytes:
        exchange = self._exchange
        return msgspec.json.encode(block_results(exchange.by_id, exchange.block(height)))

    def _header(self, block: SimBlock) -> dict[str, Any]:
        height = block.height
        return {
            "version": {"block": "11"},
            "chain_id": self._chain_id,
            "height": str(height),
            "time": time_text(block.time_ms),
            "last_block_id": {
                "hash": self._hash(height - 1),
                "parts": {"total": 1, "hash": hash_text(height - 1, "parts")},
            },
            "app_hash": hash_text(height, "app"),
            "proposer_address": hash_text(0, "validator")[:40],
        }

    def _status(self) -> dict[str, Any]:
        exchange, head = self._exchange, self._head
        newest = exchange.block(head)
        return {
            "node_info": {"network": self._chain_id, "version": "1.0.1", "moniker": "simulator"},
            "sync_info": {
                "latest_block_hash": self._hash(head),
                "latest_app_hash": hash_text(head, "app"),
                "latest_block_height": str(head),
                "latest_block_time": time_text(newest.time_ms),
                "earliest_block_hash": self._hash(exchange.oldest),
                "earliest_block_height": str(exchange.oldest),
                "earliest_block_time": time_text(exchange.block(exchange.oldest).time_ms),
                "catching_up": False,
            },
        }
