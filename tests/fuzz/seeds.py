"""Write the first kept inputs of each target: ``python -m tests.fuzz.seeds``."""

import json
from collections.abc import Iterable
from typing import Any

import msgspec

from tests.fuzz.__main__ import CORPUS
from tests.hostile import HOSTILE
from tests.shards import golden

_encode = msgspec.msgpack.encode


def _asked() -> Iterable[bytes]:
    fields: dict[str, dict[str, Any]] = {
        "topics": {"prefixes": ["book."]},
        "replay": {"topic": "book.INJ-USDT.", "publisher_epoch": 0, "after": 0},
        "markets": {"symbols": ["INJ-USDT"]},
        "events": {"after": 1},
        "history": {"grain": "second", "since": 1, "symbol": "INJ-USDT"},
        "metrics": {"markets": 1},
        "order": {"token": "t", "order": {"kind": "drain", "number": 0}},
    }
    for what in (*fields, "status", "grid", "report", "processes"):
        yield _encode({"ask": what, "id": 1, **fields.get(what, {})})


def seeds() -> dict[str, list[bytes]]:
    """Return a few inputs a target that get far into it."""
    short = min((str(line["ws"]).encode() for line in golden.blocks()), key=len)
    book = bytes.fromhex("9a0101cf00000000000000" + "01cf0000000000000001" + "cf" + "00" * 8)
    book += bytes.fromhex("cf" + "00" * 8 + "cd0000cf" + "00" * 8 + "cf" + "00" * 8)
    book += _encode(["0xab", 1, 1, 0, 0, 0, True, [["1", "2"]], []])
    joined = _encode({"id": 1, "publisher_epoch": 1, "head": 1, "topics": {"book.INJ-USDT.": 1}})
    result: dict[str, Any] = {"height": "1", "finalize_block_events": [], "txs_results": None}
    return {
        "node_websocket": [short[:4000], *(HOSTILE.values())],
        "node_block_results": [json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}).encode()],
        "node_grpc": [b"\x08\x01\x10\x02"],
        "request": [*_asked(), *HOSTILE.values()],
        "reply": [joined + b"\0\0\0\0" + book, *HOSTILE.values()],
        "frame": [b"book.INJ-USDT.\0" + book],
        "configuration": [
            b'shards = 2\n[network]\nrpc = ["http://h:1"]\n[limits]\nmute_blocks = 1\n'
        ],
        "environment_names": [b"COLLECTOR_START_SHARD=2\nCOLLECTOR_X="],
        "text": [b"INJ/USDT.", b"https://u:p@h/x?k=v", "\u202eא".encode()],
    }


def write() -> None:
    """Write them, numbered."""
    for name, inputs in seeds().items():
        folder = CORPUS / name
        folder.mkdir(parents=True, exist_ok=True)
        for number, payload in enumerate(dict.fromkeys(inputs)):
            (folder / f"seed-{number:02}").write_bytes(payload)


if __name__ == "__main__":
    write()
