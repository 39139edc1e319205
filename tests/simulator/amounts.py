"""Amounts as each protocol spells them; inside, they are integers of 10^-18, as on the chain."""

from decimal import Context, Decimal
from typing import Final

ONE: Final = 10**18
_context: Final = Context(prec=60)


def text(scaled: int) -> str:
    """Spell an amount as the chain prints decimals: always with 18 of them."""
    if scaled < 0:
        return "-" + text(-scaled)
    return f"{scaled // ONE}.{scaled % ONE:018d}"


def scaled(amount: str) -> int:
    """Read the 18-decimal text."""
    return int(amount.replace(".", ""))


def scaled_text(amount: str) -> str:
    """Spell an amount as gRPC does: the integer text of its value times 10^18."""
    return str(scaled(amount))


def shifted(amount: str, by: int) -> str:
    """Spell an amount times 10^by with 18 decimals, as the v1beta1 events do."""
    units = scaled(amount)
    return text(units * 10**by if by >= 0 else int(units / 10**-by))


def in_token_units(amount: str, by: int) -> str:
    """Spell an amount times 10^by as the indexer does: plain, without trailing zeros."""
    value = Decimal(amount).scaleb(by, _context).normalize(_context)
    return f"{value:f}"
