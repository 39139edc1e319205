"""
The validator's key, held outside the node, which is how the block time is controlled.

This node makes a block every 0.51 s whatever its `timeout_commit` is (seen in v1.20.1). It waits
for signatures, though, so each precommit is delayed until the block time has passed since the last
one, or for as long as the chain is halted. The protocol is CometBFT's for remote signers, over a
Unix socket:

    node                                      signer
      │ ◄───────────── connects ──────────────│
      │ ── length, Message{pub_key_request} ─►│
      │ ◄─ length, Message{pub_key_response} ─│
      │ ── length, Message{sign_vote…} ──────►│   …and so on: one answer for each request
"""

import base64
import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

from collector.devnet.privval import (
    nested,
    prefixed,
    proposal_sign_bytes,
    read_fields,
    read_message,
    vote_sign_bytes,
)

# Fields of `cometbft.privval.v1.Message`; the answer is the number after the request's.
_PUB_KEY, _SIGN_VOTE, _SIGN_PROPOSAL, _PING = 1, 3, 5, 7
_PRECOMMIT = 2
_RETRY_S = 0.05


class Signer:
    """
    Sign for one node, through its restarts, in a thread of its own.

    There is no guard against double signing: there is one validator, and no penalty.
    """

    def __init__(self, path: Path, key_file: Path, *, block_time_s: float) -> None:
        """Serve the node that listens on the socket `path`; a new one may take its place."""
        from Crypto.Signature import eddsa

        secret = base64.b64decode(json.loads(key_file.read_bytes())["priv_key"]["value"])
        key = eddsa.import_private_key(secret[:32])
        self._path = path
        self._public: bytes = key.public_key().export_key(format="raw")
        self._sign: Callable[[bytes], bytes] = eddsa.new(key, "rfc8032").sign
        self._block_time_s = block_time_s
        self._next = 0.0
        self._may_sign = threading.Event()
        self._may_sign.set()
        threading.Thread(target=self._serve, name="signer", daemon=True).start()

    def toggle(self) -> None:
        """
        Withhold signatures, which halts the chain; or resume it.

        After some minutes without an answer the node gives up, and must then be restarted.
        """
        if self._may_sign.is_set():
            self._may_sign.clear()
        else:
            self._may_sign.set()

    def _serve(self) -> None:
        while True:
            try:
                with socket.socket(socket.AF_UNIX) as sock:
                    sock.connect(str(self._path))
                    with sock.makefile("rb") as stream:
                        while request := read_message(stream.read):
                            sock.sendall(prefixed(self._answer(request)))
            except OSError:
                pass  # the node is not there, or not there yet
            time.sleep(_RETRY_S)

    def _answer(self, request: bytes) -> bytes:
        ((kind, content),) = read_fields(request)
        assert isinstance(content, bytes)
        if kind == _PUB_KEY:
            answer = nested(3, self._public) + nested(4, b"ed25519")
        elif kind == _PING:
            answer = b""
        else:
            answer = nested(1, self._signed(kind, content))
        return nested(kind + 1, answer)

    def _signed(self, kind: int, content: bytes) -> bytes:
        parts = dict(read_fields(content))
        subject, chain_id = parts[1], parts[2]
        assert isinstance(subject, bytes)
        assert isinstance(chain_id, bytes)
        if kind == _SIGN_PROPOSAL:
            return subject + nested(7, self._sign(proposal_sign_bytes(subject, chain_id)))
        assert kind == _SIGN_VOTE, f"unknown request {kind}"
        if dict(read_fields(subject)).get(1) == _PRECOMMIT:
            self._may_sign.wait()
            self._keep_pace()
        return subject + nested(8, self._sign(vote_sign_bytes(subject, chain_id)))

    def _keep_pace(self) -> None:
        now = time.monotonic()
        time.sleep(max(0.0, self._next - now))
        # A late block does not hurry the ones after it.
        self._next = max(self._next, now) + self._block_time_s
