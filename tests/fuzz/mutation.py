"""
Change an input where it has meaning: one value of its document, not one byte of its text.

A byte changed in JSON or MessagePack mostly makes something that no decoder takes, and nothing
behind the first line is tried. So of four inputs three stay documents: a value is replaced,
left out, doubled or exchanged, also within texts that hold JSON themselves.
"""

import random
from collections.abc import Callable
from typing import Any, Final

import msgspec

Mutate = Callable[[bytes, int], bytes]
"""Change bytes without knowing what they mean; the second argument is the largest size."""
Mutator = Callable[[bytes, int, int], bytes]
"""What atheris calls: the input, the largest size, a seed."""

ODD: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**53 + 1, 2**62, 2**63 - 1, -(2**63), 2**64 - 1),
    *(0.5, -0.0, 1e308, "", "0", "-1", "1e5", "nan", "NaN", " ", "é", "\x00", "א", "\x1b[2J"),
    *("9" * 40, "0." + "0" * 17 + "1", "0x" + "ab" * 32, "[]", "{}", "null", "true", "INJ-USDT"),
    *([], {}, [None], [[]], {"": None}, [[["1", "2"]]], "1" * 300, "." * 60),
)
_KEEP: Final = 3
"""Of so many inputs and one more, so many stay documents."""


def documents(codec: Any, mutate: Mutate, *, separator: bytes = b"", head: int = 0) -> Mutator:
    """
    Return a mutator for documents of `codec`, ``msgspec.json`` or ``msgspec.msgpack``.

    Args:
        separator: Between the documents of one input, if there may be more than one.
        head: So many bytes before each document are left as they are, or changed blindly.

    """

    def changed(data: bytes, most: int, seed: int) -> bytes:
        chance = random.Random(seed)
        if chance.randrange(_KEEP + 1) == 0:
            return mutate(data, most)
        parts = data.split(separator) if separator else [data]
        at = chance.randrange(len(parts))
        try:
            document = codec.decode(parts[at][head:])
            parts[at] = parts[at][:head] + codec.encode(_changed(document, chance))
        except (ValueError, RecursionError, OverflowError, TypeError):
            return mutate(data, most)
        if separator and chance.randrange(8) == 0:
            parts.insert(at, chance.choice(parts))
        made = separator.join(parts)
        return made if len(made) <= most else mutate(data, most)

    return changed


def _changed(document: Any, chance: random.Random) -> Any:
    """Go down to some value and change it there; the document itself is free to be changed."""
    holder, key, found = None, None, document
    while isinstance(found, dict | list) and found and chance.randrange(8):
        holder = found
        key = (
            chance.choice(list(found)) if isinstance(found, dict) else chance.randrange(len(found))
        )
        found = holder[key]
    if holder is None:
        return _other(document, chance)
    _change(holder, key, chance)
    return document


def _change(holder: Any, key: Any, chance: random.Random) -> None:
    how = chance.randrange(6)
    if how == 0:
        del holder[key]
    elif how == 1 and isinstance(holder, list):
        holder.insert(key, holder[chance.randrange(len(holder))])
    elif how == 2 and isinstance(holder, list):
        other = chance.randrange(len(holder))
        holder[key], holder[other] = holder[other], holder[key]
    elif how == 2:
        holder[key] = chance.choice(list(holder.values()))
    else:
        holder[key] = _other(holder[key], chance)


def _other(value: Any, chance: random.Random) -> Any:
    if isinstance(value, str) and value[:1] in ("[", "{", '"') and chance.randrange(4):
        try:
            inner = _changed(msgspec.json.decode(value), chance)
            return msgspec.json.encode(inner).decode()
        except (ValueError, RecursionError):
            pass
    if isinstance(value, int) and not isinstance(value, bool) and chance.randrange(2):
        return value + chance.choice((-1, 1, 7, -(2**31)))
    if isinstance(value, str) and value and chance.randrange(3) == 0:
        at = chance.randrange(len(value))
        return value[:at] + chance.choice(("", ".", "-", "0", "é", "\x00")) + value[at + 1 :]
    return chance.choice(ODD)
