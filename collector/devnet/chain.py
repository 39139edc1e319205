"""The trader's side of the chain: sign a message, send it, keep the sequence right."""

import logging
import re
from typing import Any, Final

import grpc

from collector.devnet.accounts import Account
from collector.devnet.keys import Key
from collector.devnet.protos import PROTOS
from collector.devnet.transaction import Fee, Transaction

log = logging.getLogger("collector.devnet")

_tx: Final = PROTOS.package("cosmos.tx.v1beta1")
_FEE: Final = Fee(gas=2_000_000_000, gas_price=160_000_000)
_EXPIRES_AFTER = 20
"""Blocks; a transaction that was lost frees its sequence number by then."""
_WRONG_SEQUENCE = 32
_EXPECTED = re.compile(r"expected (\d+), got \d+")
_TIMEOUT_S = 5.0


class Sender:
    """
    Send one account's transactions, one at a time.

    The sequence number is counted here, and taken from the chain's answer when the two differ:
    after a restart of the node, an expired transaction, or an earlier trader on the same chain.
    """

    def __init__(self, account: Account, channel: grpc.aio.Channel, chain_id: str) -> None:
        self.account = account
        self.sequence = 0
        self._key = Key(bytes.fromhex(account.key_hex))
        self._chain_id = chain_id
        self._service = PROTOS.stub("cosmos.tx.v1beta1.Service", channel)

    async def send(self, message: Any, *, height: int) -> bool:
        """Say whether the node took the message; `height` is the last block's."""
        request = _tx.BroadcastTxRequest(
            tx_bytes=self._sign(message, height), mode="BROADCAST_MODE_SYNC"
        )
        try:
            answer = await self._service.BroadcastTx(request, timeout=_TIMEOUT_S)
        except grpc.aio.AioRpcError as exc:
            # After its restart the node tells a wrong sequence by an error of the call.
            if not self._correct_sequence(exc.details() or ""):
                log.info("%s: %s", self.account.name, exc.code().name)
            return False
        response = answer.tx_response
        if response.code == 0:
            self.sequence += 1
            return True
        if response.code != _WRONG_SEQUENCE or not self._correct_sequence(response.raw_log):
            log.warning("%s: code %d, %s", self.account.name, response.code, response.raw_log)
        return False

    def _correct_sequence(self, said: str) -> bool:
        """Take over the sequence that the node expects, if it says one."""
        expected = _EXPECTED.search(said)
        if expected is None:
            return False
        self.sequence = int(expected[1])
        log.info("%s: sequence %d from now on", self.account.name, self.sequence)
        return True

    def _sign(self, message: Any, height: int) -> bytes:
        transaction = Transaction(
            message,
            fee=_FEE,
            sequence=self.sequence,
            timeout_height=height + _EXPIRES_AFTER,
        )
        return transaction.signed(self._key, account=self.account.number, chain_id=self._chain_id)
