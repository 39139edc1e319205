"""
The validator's key, held outside the node: which is how the pace of the blocks is set.

This node makes a block every 0.51 s whatever its `timeout_commit` says (seen in v1.20.1). It waits
for signatures, though, so each precommit is held back until the block time has passed since the
one before. The protocol is CometBFT's for remote signers, over a Unix socket:

    node                                   signer
      │ ◄──────────── connects ──────────────│
      │ ── length, Message{pub_key_request} ─►│
      │ ◄─ length, Message{pub_key_response} ─│
      │ ── length, Message{sign_vote…} ──────►│   …and so on: one answer for each request
"""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

# Fields of `cometbft.privval.v1.Message`.
_PUB_KEY, _SIGN_VOTE, _SIGN_PROPOSAL, _PING = 1, 3, 5, 7
_PRECOMMIT = 2
_RETRY_S = 0.05

Field = tuple[int, int | bytes]


def read_fields(data: bytes) -> Iterator[Field]:
    """Give the fields of a protobuf message in order; fixed-width ones do not occur here."""
    position = 0
    while position < len(data):
        tag, position = _read_varint(data, position)
        value, position = _read_varint(data, position)
        if tag & 7 == 0:
            yield tag >> 3, value
        else:
            yield tag >> 3, data[position : position + value]
            position += value


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value) if value else b""


def _fixed(field: int, value: int) -> bytes:
    return _varint(field << 3 | 1) + value.to_bytes(8, "little") if value else b""


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _fixed_head(content: dict[int, int | bytes]) -> bytes:
    """Encode type, height and round: numbers in a vote, fixed width in what is signed."""
    kind, height, round_ = (content.get(n, 0) for n in (1, 2, 3))
    assert isinstance(kind, int)
    assert isinstance(height, int)
    assert isinstance(round_, int)
    return _number(1, kind) + _fixed(2, height) + _fixed(3, round_)


def _block_id(field: int, content: dict[int, int | bytes], source: int) -> bytes:
    block = content.get(source, b"")
    assert isinstance(block, bytes)
    # A vote for no block has an empty one, which is left out of what is signed.
    return _bytes(field, block) if any(value for _, value in read_fields(block) if _ == 1) else b""


def vote_sign_bytes(vote: bytes, chain_id: bytes) -> bytes:
    """Give what a signature under a vote signs."""
    content = dict(read_fields(vote))
    time_ = content.get(5, b"")
    assert isinstance(time_, bytes)
    body = _fixed_head(content) + _block_id(4, content, 4) + _bytes(5, time_) + _bytes(6, chain_id)
    return _varint(len(body)) + body


def proposal_sign_bytes(proposal: bytes, chain_id: bytes) -> bytes:
    """Give what a signature under a proposal signs."""
    content = dict(read_fields(proposal))
    pol_round, time_ = content.get(4, 0), content.get(6, b"")
    assert isinstance(pol_round, int)
    assert isinstance(time_, bytes)
    body = (
        _fixed_head(content)
        + _number(4, pol_round)
        + _block_id(5, content, 5)
        + _bytes(6, time_)
        + _bytes(7, chain_id)
    )
    return _varint(len(body)) + body


class Signer:
    """
    Sign for one node, through its restarts, in a thread of its own.

    Nothing guards against signing twice: there is one validator, and nobody to punish it.
    """

    def __init__(self, path: Path, seed: bytes, *, block_time_s: float) -> None:
        from Crypto.PublicKey import ECC
        from Crypto.Signature import eddsa

        key = ECC.construct(curve="Ed25519", seed=seed)
        self._path = path
        self._public = key.public_key().export_key(format="raw")
        self._sign: Callable[[bytes], bytes] = eddsa.new(key, "rfc8032").sign
        self._block_time_s = block_time_s
        self._next = 0.0
        threading.Thread(target=self._serve, name="signer", daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                with socket.socket(socket.AF_UNIX) as sock:
                    sock.connect(str(self._path))
                    with sock.makefile("rb") as stream:
                        while request := _read_message(stream.read):
                            body = self._answer(request)
                            sock.sendall(_varint(len(body)) + body)
            except OSError:
                pass  # the node is not there, or not there yet
            time.sleep(_RETRY_S)

    def _answer(self, request: bytes) -> bytes:
        ((kind, content),) = read_fields(request)
        assert isinstance(content, bytes)
        if kind == _PUB_KEY:
            return _bytes(2, _bytes(3, self._public) + _bytes(4, b"ed25519"))
        if kind == _PING:
            return _bytes(8, b"")
        parts = dict(read_fields(content))
        what, chain_id = parts[1], parts[2]
        assert isinstance(what, bytes)
        assert isinstance(chain_id, bytes)
        if kind == _SIGN_PROPOSAL:
            signature = self._sign(proposal_sign_bytes(what, chain_id))
            return _bytes(6, _bytes(1, what + _bytes(7, signature)))
        assert kind == _SIGN_VOTE, f"unknown request {kind}"
        if dict(read_fields(what)).get(1) == _PRECOMMIT:
            self._keep_pace()
        return _bytes(4, _bytes(1, what + _bytes(8, self._sign(vote_sign_bytes(what, chain_id)))))

    def _keep_pace(self) -> None:
        now = time.monotonic()
        time.sleep(max(0.0, self._next - now))
        # A late block does not hurry the ones after it.
        self._next = max(self._next, now) + self._block_time_s


def _read_message(read: Callable[[int], bytes]) -> bytes:
    """Read one message, preceded by its length; empty at the end of the connection."""
    size = shift = 0
    while byte := read(1):
        size |= (byte[0] & 0x7F) << shift
        shift += 7
        if byte[0] < 0x80:
            return read(size)
    return b""
