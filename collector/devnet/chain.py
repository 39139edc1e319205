"""The trader's side of the chain: sign a message, send it, keep the sequence right."""

import logging
import re

import grpc
from google.protobuf.message import Message
from pyinjective import PrivateKey, Transaction
from pyinjective.proto.cosmos.base.v1beta1.coin_pb2 import Coin
from pyinjective.proto.cosmos.tx.v1beta1 import service_pb2, service_pb2_grpc

from collector.devnet.accounts import Account

log = logging.getLogger("collector.devnet")

_GAS = 2_000_000_000
_GAS_PRICE = 160_000_000
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
        self._key = PrivateKey.from_hex(account.key_hex)
        self._public_key = self._key.to_public_key()
        self._chain_id = chain_id
        self._service = service_pb2_grpc.ServiceStub(channel)

    async def send(self, message: Message, *, height: int) -> bool:
        """Say whether the node took the message; `height` is the last block's."""
        request = service_pb2.BroadcastTxRequest(
            tx_bytes=self._sign(message, height), mode=service_pb2.BROADCAST_MODE_SYNC
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

    def _sign(self, message: Message, height: int) -> bytes:
        transaction = Transaction(
            msgs=(message,),
            account_num=self.account.number,
            sequence=self.sequence,
            chain_id=self._chain_id,
            fee=[Coin(denom="inj", amount=str(_GAS * _GAS_PRICE))],
            gas=_GAS,
            timeout_height=height + _EXPIRES_AFTER,
        )
        document = transaction.get_sign_doc(self._public_key)
        signature = self._key.sign(document.SerializeToString())
        signed: bytes = transaction.get_tx_data(signature, self._public_key)
        return signed
