"""The chain's amounts, bytes and addresses, converted to the form used in frames."""

import base64
from decimal import Context, Decimal
from typing import Final

_EXACT: Final = Context(prec=120)
_ONE: Final = 10**18
_CHARSET: Final = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR: Final = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)


def scaled(text: str) -> int:
    """
    Parse a decimal text as an integer number of 10^-18.

    Raises:
        ValueError: If it is not a number, or has more decimals.

    """
    try:
        number = Decimal(text) * _ONE if len(text) < 28 else _EXACT.multiply(Decimal(text), _ONE)
        whole = int(number)
    except (ArithmeticError, ValueError):
        raise ValueError(f"{text!r} is not an amount") from None
    if whole != number:
        raise ValueError(f"{text!r} has more than 18 decimals")
    return whole


def amount(text: str) -> str:
    """Format a decimal text with 18 decimals."""
    whole = scaled(text)
    sign = "-" if whole < 0 else ""
    units, rest = divmod(abs(whole), _ONE)
    return f"{sign}{units}.{rest:018d}"


def hexadecimal(encoded: str) -> str:
    """Convert base64 bytes to ``0x`` and digits; empty stays empty."""
    return f"0x{base64.b64decode(encoded, validate=True).hex()}" if encoded else ""


def address(encoded: str) -> str:
    """Convert base64 bytes to an ``inj1`` address (BIP 173); empty stays empty."""
    if not encoded:
        return ""
    raw = base64.b64decode(encoded, validate=True)
    bits = "".join(f"{byte:08b}" for byte in raw)
    bits += "0" * (-len(bits) % 5)
    words = [int(bits[at : at + 5], 2) for at in range(0, len(bits), 5)]
    prefix = [ord(c) >> 5 for c in "inj"] + [0] + [ord(c) & 31 for c in "inj"]
    checksum = _polymod([*prefix, *words, 0, 0, 0, 0, 0, 0]) ^ 1
    words += [checksum >> 5 * (5 - i) & 31 for i in range(6)]
    return "inj1" + "".join(_CHARSET[word] for word in words)


def _polymod(values: list[int]) -> int:
    remainder = 1
    for value in values:
        top = remainder >> 25
        remainder = (remainder & 0x1FFFFFF) << 5 ^ value
        for i, generator in enumerate(_GENERATOR):
            if top >> i & 1:
                remainder ^= generator
    return remainder
