"""Bytes that nobody honest sends where a MessagePack map is due."""

from typing import Final

import msgspec

_encode: Final = msgspec.msgpack.encode

HOSTILE: Final[dict[str, bytes]] = {
    "nothing": b"",
    "a key that is not text": bytes.fromhex("81a36173ff01"),
    "a value that is not text": bytes.fromhex("82a361736ba1ffa2696401"),
    "5,000 nested arrays": b"\x81\xa3ask" + b"\x91" * 5_000 + b"\xc0",
    "5,000 nested maps": b"\x81\xa1a" * 5_000 + b"\xc0",
    "4,294,967,295 elements": b"\x81\xa3ask\xdd\xff\xff\xff\xff",
    "a byte that MessagePack does not know": b"\xc1",
    "cut short": _encode({"ask": "status", "id": 1})[:-1],
    "something behind it": _encode({"ask": "status", "id": 1}) + b"\x00",
    "an array": _encode(["status"]),
    "a number": _encode(5),
    "an instant out of range": b"\x82\xa3ask\xa6status\xa2id\xc7\x0c\xff" + b"\xff" * 12,
    "no question": _encode({"id": 1}),
    "a list for a question": _encode({"ask": ["status"], "id": 1}),
    "an unknown question": _encode({"ask": "no such", "id": 1}),
    "no process list": _encode({"ask": "processes", "id": 1, "processes": None}),
    "no order": _encode({"ask": "order", "id": 1, "token": 5, "order": 7}),
    "no report": _encode({"ask": "report", "id": 1, "report": None}),
    "text for a number": _encode({"ask": "events", "id": 1, "after": "x"}),
    "not a number": b"\x83\xa3ask\xa7history\xa2id\x01\xa5since\xca\x7f\xc0\x00\x00",
    "a map for a symbol": _encode({"ask": "history", "id": 1, "symbol": {}}),
    "no prefixes": _encode({"ask": "topics", "id": 1, "prefixes": [None]}),
    "text for an id": _encode({"ask": "replay", "id": "x", "topic": "a", "after": 0}),
}
