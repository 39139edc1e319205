"""The devnet's signatures: the same bytes as injective-py's, and as they have always been."""

import importlib.util
import subprocess
import sys

import pytest

from collector.devnet.accounts import accounts
from collector.devnet.keys import Keccak256, Key
from collector.devnet.protos import PROTOS
from collector.devnet.transaction import Fee, Transaction

FEE = Fee(gas=2_000_000_000, gas_price=160_000_000)


def _key() -> Key:
    return Key(bytes.fromhex(accounts()[0].key_hex))


def _transaction(sequence: int = 7) -> Transaction:
    account = accounts()[0]
    message = PROTOS.message("injective.exchange.v2.MsgBatchUpdateOrders")(
        sender=account.address,
        subaccount_id=account.subaccount_id,
        spot_market_ids_to_cancel_all=["0x01"],
    )
    return Transaction(message, FEE, sequence=sequence, timeout_height=120)


def _signed(sequence: int = 7) -> bytes:
    return _transaction(sequence).signed(_key(), account=3, chain_id="injective-777")


def test_the_hash_is_ethereums() -> None:
    # The digests of nothing and of "abc", as Ethereum's specifications give them.
    empty = "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
    assert Keccak256().digest().hex() == empty
    abc = "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45"
    hashed = Keccak256(b"a")
    copied = hashed.copy()
    hashed.update(b"bc")
    copied.update(b"bc")
    assert hashed.digest().hex() == copied.digest().hex() == abc


def test_an_account_is_where_it_has_always_been() -> None:
    account = accounts()[0]
    assert account.address == "inj1pwgaql8musu4udspuauvd872hf7lm5m0w0c65d"
    public = "0348b7956a55d73978411ecc44529889b92af3ef138923c90e5fa4505c9bcc7dd3"
    assert _key().public.hex() == public


def test_a_signature_is_the_one_that_injective_py_1_16_made() -> None:
    assert _key().sign(b"a document").hex() == (
        "1d82373c17d17071c38deaff1ebb88eba029bf4d13114c1e66276d4094539242"
        "139595ab5f1104d43ad3b9c16c3a2bff3e28076b8533ba5a53acce09cfbc20bf"
    )


def test_a_transaction_is_the_one_that_injective_py_1_16_made() -> None:
    assert _signed().hex() == (
        "0aaa010aa5010a2b2f696e6a6563746976652e65786368616e67652e76322e4d73674261746368557064"
        "6174654f726465727312760a2a696e6a3170776761716c386d7573753475647370756175766438373268"
        "66376c6d356d307730633635641242307830623931643037636662653433393565333630316537373863"
        "3639666361626137646664643336663030303030303030303030303030303030303030303030311a0430"
        "78303118781283010a5e0a540a2d2f696e6a6563746976652e63727970746f2e763162657461312e6574"
        "68736563703235366b312e5075624b657912230a210348b7956a55d73978411ecc44529889b92af3ef13"
        "8923c90e5fa4505c9bcc7dd312040a020801180712210a190a03696e6a12123332303030303030303030"
        "303030303030301080a8d6b9071a4023ad2df0eb7b81a2aa22883b8d042c40e5cfa6b0d76abe53c27c33"
        "14912b719448bf8046e7a61c777826f40fc1e2a39157d22e0b0e1638d2e5711dc60bdcaa8b"
    )


_THEIRS = """
import sys
from pyinjective import PrivateKey, Transaction
from pyinjective.proto.cosmos.base.v1beta1.coin_pb2 import Coin
from pyinjective.proto.injective.exchange.v2.tx_pb2 import MsgBatchUpdateOrders
key = PrivateKey.from_hex(sys.argv[1])
public = key.to_public_key()
for sequence in range(int(sys.argv[3])):
    transaction = Transaction(
        msgs=(MsgBatchUpdateOrders.FromString(bytes.fromhex(sys.argv[2])),),
        account_num=3, sequence=sequence, chain_id="injective-777", timeout_height=120,
        fee=[Coin(denom="inj", amount=str(2_000_000_000 * 160_000_000))], gas=2_000_000_000,
    )
    signature = key.sign(transaction.get_sign_doc(public).SerializeToString())
    print(transaction.get_tx_data(signature, public).hex())
"""


@pytest.mark.skipif(
    importlib.util.find_spec("pyinjective") is None,
    reason="injective-py is not installed: nothing to compare our signatures with",
)
def test_many_transactions_are_injective_pys_to_the_byte() -> None:
    count = 40
    message = _transaction().message.SerializeToString().hex()
    done = subprocess.run(
        [sys.executable, "-c", _THEIRS, accounts()[0].key_hex, message, str(count)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [_signed(sequence).hex() for sequence in range(count)]
