"""A key of an account, as Injective has them: secp256k1 as in Ethereum, hashed by Keccak-256."""

from functools import cached_property

import ecdsa
from Crypto.Hash import keccak
from ecdsa.util import sigencode_string_canonize


class Key:
    """One private key, and what follows from it."""

    def __init__(self, secret: bytes) -> None:
        """Take the 32 bytes of the key."""
        self._key = ecdsa.SigningKey.from_string(secret, curve=ecdsa.SECP256k1)

    @cached_property
    def public(self) -> bytes:
        """The public key, compressed: 33 bytes."""
        return bytes(self._key.get_verifying_key().to_string("compressed"))

    @cached_property
    def ethereum(self) -> bytes:
        """The account's 20 bytes, as Ethereum derives them."""
        public = self._key.get_verifying_key().to_string("uncompressed")[1:]
        return Keccak256(public).digest()[12:]

    def sign(self, document: bytes) -> bytes:
        """Give the 64 bytes of a signature; the same document has always the same."""
        signature = self._key.sign_deterministic(
            document, hashfunc=Keccak256, sigencode=sigencode_string_canonize
        )
        return bytes(signature)


class Keccak256:
    """
    The hash that Ethereum calls SHA-3, in the form of `hashlib`'s, which `hmac` needs.

    It is not `hashlib.sha3_256`: the padding differs, and so does every digest.
    """

    digest_size = 32
    block_size = 136

    def __init__(self, data: bytes = b"") -> None:
        self._data = bytearray(data)

    def update(self, data: bytes) -> None:
        """Add to what is hashed."""
        self._data += data

    def copy(self) -> "Keccak256":
        """Give a hash that goes on from here."""
        return Keccak256(bytes(self._data))

    def digest(self) -> bytes:
        """Hash the bytes added so far."""
        return keccak.new(data=bytes(self._data), digest_bits=256).digest()
