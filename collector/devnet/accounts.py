"""
The accounts that trade on a devnet: the same keys every time, so that a kept home stays usable.

The keys are worth nothing anywhere else: they are a hash of a public text.
"""

import hashlib
from typing import NamedTuple

MAKERS = 4
TAKERS = 2


class Account(NamedTuple):
    """
    One signer; `number` is its place in the genesis, which the chain asks for in signatures.

    It trades from its first numbered subaccount, whose deposits are the exchange's own: the
    default one (number 0) moves bank coins at every order, which costs the node far more.
    """

    name: str
    number: int
    key_hex: str
    ethereum: bytes

    @property
    def address(self) -> str:
        """Give the bech32 form, `inj1…`."""
        return bech32(self.ethereum, prefix="inj")

    @property
    def subaccount_id(self) -> str:
        """Give the subaccount that trades, `0x` and 64 hexadecimal digits."""
        return "0x" + self.ethereum.hex() + (1).to_bytes(12, "big").hex()


def accounts() -> list[Account]:
    """Derive all accounts: the makers, the takers, and last the oracle's relayer."""
    names = [f"maker {n}" for n in range(MAKERS)] + [f"taker {n}" for n in range(TAKERS)]
    return [_account(name, number) for number, name in enumerate([*names, "oracle"])]


def _account(name: str, number: int) -> Account:
    from collector.devnet.keys import Key

    secret = hashlib.sha256(f"collector devnet {name}".encode()).digest()
    return Account(name, number, secret.hex(), Key(secret).ethereum)


def bech32(address: bytes, *, prefix: str) -> str:
    """Encode an address the way the chain prints it."""
    import bech32 as codec

    words = codec.convertbits(address, 8, 5)
    assert words is not None  # only for values over 8 bits
    return str(codec.bech32_encode(prefix, words))


def module_address(name: str) -> str:
    """Name the account of one of the chain's modules, which has no key."""
    return bech32(hashlib.sha256(name.encode()).digest()[:20], prefix="inj")
