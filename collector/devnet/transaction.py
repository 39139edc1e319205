"""A transaction of one message and one signer, as the chain reads it (`SIGN_MODE_DIRECT`)."""

from typing import Any, Final, NamedTuple

from collector.devnet.keys import Key
from collector.devnet.protos import PROTOS

_tx: Final = PROTOS.package("cosmos.tx.v1beta1")
_keys: Final = PROTOS.package("injective.crypto.v1beta1.ethsecp256k1")
_PREFIX: Final = "/"
"""Of the type's name in an `Any`: the chain knows no host, unlike protobuf."""


class Fee(NamedTuple):
    """What is paid for a transaction, in 10^-18 INJ."""

    gas: int
    gas_price: int


class Transaction(NamedTuple):
    """What is to be signed."""

    message: Any
    fee: Fee
    sequence: int
    timeout_height: int
    """The last block that may have it."""

    def signed(self, key: Key, *, account: int, chain_id: str) -> bytes:
        """Give the bytes to broadcast; `account` is the signer's number on the chain."""
        body, auth = self._body(), self._auth(key.public)
        document = _tx.SignDoc(
            body_bytes=body, auth_info_bytes=auth, chain_id=chain_id, account_number=account
        )
        signature = key.sign(document.SerializeToString())
        raw = _tx.TxRaw(body_bytes=body, auth_info_bytes=auth, signatures=[signature])
        return bytes(raw.SerializeToString())

    def _body(self) -> bytes:
        body = _tx.TxBody(timeout_height=self.timeout_height)
        body.messages.add().Pack(self.message, type_url_prefix=_PREFIX)
        return bytes(body.SerializeToString())

    def _auth(self, public: bytes) -> bytes:
        auth = _tx.AuthInfo()
        signer = auth.signer_infos.add(sequence=self.sequence)
        signer.mode_info.single.mode = 1  # SIGN_MODE_DIRECT
        signer.public_key.Pack(_keys.PubKey(key=public), type_url_prefix=_PREFIX)
        auth.fee.gas_limit = self.fee.gas
        auth.fee.amount.add(denom="inj", amount=str(self.fee.gas * self.fee.gas_price))
        return bytes(auth.SerializeToString())
