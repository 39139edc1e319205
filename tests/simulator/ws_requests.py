"""
The WebSocket's side of a conversation, without the socket: requests in, answers out.

Every text and every oddity is as injectived v1.20.1 gave it on 2026-11-22.
"""

from typing import Any, Final, NamedTuple

import msgspec

from tests.simulator.filters import Filter, from_json

SUCCESS: Final = b'{"jsonrpc":"2.0","id":%b,"result":"success"}'


class Asked(NamedTuple):
    """What one request amounts to: an answer, and perhaps a change of subscriptions."""

    answer: bytes
    subscribe: tuple[str, bytes, Filter] | None = None
    """Name, request id as JSON, filter."""
    unsubscribe: str = ""


def error(request_id: Any, code: int, message: str, data: str = "") -> bytes:
    """Print an error answer; ``request_id`` None leaves it out."""
    answer: dict[str, Any] = {"jsonrpc": "2.0"}
    if request_id is not None:
        answer["id"] = request_id
    answer["error"] = {"code": code, "message": message} | ({"data": data} if data else {})
    return msgspec.json.encode(answer)


def internal(request_id: Any, data: str) -> bytes:
    """Print the error that stands for almost all of them."""
    return error(request_id, -32603, "Internal error", data)


def receive(payload: bytes, taken: dict[str, Any]) -> Asked:
    """Judge one request, given the subscription names of this connection."""
    try:
        request = msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as reason:
        return _unreadable(str(reason))
    if not isinstance(request, dict):
        # A batch, for example.
        return _unreadable("json: cannot unmarshal array into Go value")
    if "id" not in request:
        return Asked(b"")
    request_id = request["id"]
    if isinstance(request_id, float):
        request_id = int(request_id)
    if not isinstance(request_id, int) or isinstance(request_id, bool):
        return Asked(internal(request_id, "invalid request: expected non-negative int as id"))
    if request.get("method") not in ("subscribe", "unsubscribe"):
        return Asked(error(request_id, -32601, "Method not found"))
    if not isinstance(request.get("params"), dict):
        return Asked(internal(-1, "WSJSONRPC: reflect: Call with too few input arguments"))
    inner = request["params"].get("req")
    if inner is None:
        panic = "runtime error: invalid memory address or nil pointer dereference"
        return Asked(internal(-1, panic))
    if not isinstance(inner, dict):
        return Asked(internal(request_id, "error converting json params to arguments"))
    name = str(inner.get("subscription_id", ""))
    if request["method"] == "unsubscribe":
        return _unsubscribe(request_id, name, taken)
    return _subscribe(request_id, name, inner.get("filter") or {}, taken)


def _unreadable(reason: str) -> Asked:
    data = f"error unmarshaling request: {reason}"
    return Asked(error(None, -32700, "Parse error. Invalid JSON", data))


def _unsubscribe(request_id: int, name: str, taken: dict[str, Any]) -> Asked:
    if name not in taken:
        return Asked(internal(request_id, f"subscription not found: {name}"))
    return Asked(SUCCESS % str(request_id).encode(), unsubscribe=name)


def _subscribe(request_id: int, name: str, wanted: Any, taken: dict[str, Any]) -> Asked:
    if not name:
        return Asked(internal(request_id, "subscription_id is required"))
    if name in taken:
        return Asked(internal(request_id, f"subscription_id already exists: {name}"))
    try:
        filter_ = from_json(wanted)
    except (ValueError, AttributeError, TypeError) as reason:
        return Asked(internal(request_id, str(reason)))
    number = str(request_id).encode()
    return Asked(SUCCESS % number, subscribe=(name, number, filter_))
