"""Sentences about invalid values: what was expected, what it is, what may be meant."""

import difflib
import math
from collections.abc import Iterable
from typing import Any, Final

import msgspec
from msgspec import inspect

_SHOWN: Final = 60


def did_you_mean(word: str, known: Iterable[str], *, prefix: str = "") -> str:
    """Return ``; did you mean shards?``, or nothing if no known word is close."""
    folded = {name.casefold(): name for name in known}
    close = difflib.get_close_matches(word.casefold(), folded, n=2, cutoff=0.6)
    return (
        f"; did you mean {' or '.join(prefix + folded[name] for name in close)}?" if close else ""
    )


def expected(kind: Any, choices: Iterable[str] = ()) -> str:
    """Describe the values of a type: ``a whole number of at least 1``."""
    return _expected(inspect.type_info(kind), tuple(choices))


def _expected(kind: inspect.Type, choices: tuple[str, ...]) -> str:
    match kind:
        case inspect.Metadata():
            return _expected(kind.type, choices)
        case inspect.UnionType():
            others = [t for t in kind.types if not isinstance(t, inspect.NoneType)]
            return " or ".join(_expected(other, choices) for other in others)
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType():
            return f"a whole number{_bounds(kind)}"
        case inspect.FloatType():
            return f"a number{_bounds(kind)}"
        case inspect.LiteralType():
            return f"one of {', '.join(choices or sorted(map(str, kind.values)))}"
        case inspect.VarTupleType():
            return _list(kind.item_type, choices)
        case inspect.StrType():
            return f"one of {', '.join(choices)}" if choices else "a text"
        case _:
            return "a table"


def _list(item: inspect.Type, choices: tuple[str, ...]) -> str:
    inner = _expected(item, choices)
    return "a list of texts" if inner == "a text" else f"a list, each {inner}"


def _bounds(kind: inspect.IntType | inspect.FloatType) -> str:
    said = []
    if kind.ge is not None:
        said.append(f"of at least {kind.ge:,.10g}")
    if kind.gt is not None:
        said.append(f"greater than {kind.gt:,.10g}")
    if kind.le is not None:
        said.append(f"at most {kind.le:,.10g}")
    return f" {' and '.join(said)}" if said else ""


def converted(value: Any, kind: Any, choices: Iterable[str] = (), *, strict: bool = True) -> Any:
    """
    Convert a value to a type; unless ``strict``, a text may be a number.

    Raises:
        ValueError: If it is not of that type; the text says what is expected, and what it is.

    """
    choices = tuple(choices)
    try:
        found = msgspec.convert(value, kind, strict=strict)
    except (msgspec.ValidationError, UnicodeEncodeError):
        # The latter: it has a byte that is no text, where a number is expected.
        meant = did_you_mean(value, choices) if isinstance(value, str) else ""
        what = value if strict else as_number(value)
        raise ValueError(f"{expected(kind, choices)}, not {shown(what)}{meant}") from None
    words = found if isinstance(found, tuple) else (found,)
    for word in words:
        if isinstance(word, float) and not math.isfinite(word):
            raise ValueError(f"{expected(kind)}, not {word}")
        if choices and word not in choices:
            meant = did_you_mean(str(word), choices)
            raise ValueError(f"{expected(kind, choices)}, not {shown(word)}{meant}")
    return found


def as_number(value: Any) -> Any:
    """Convert a text to the number that it spells; a text that Python alone reads so stays one."""
    for kind in (int, float):
        try:
            found = kind(value)
        except (ValueError, TypeError):
            continue
        # 1_0 is not shown as 10, nor 1e400 as inf: the sentence would contradict itself.
        if str(found) == value:
            return found
    return value


def shown(value: Any) -> str:
    """Return a foreign value as one short line without control characters."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a table"
    text = repr(list(value) if isinstance(value, tuple) else value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def plural(number: int, word: str) -> str:
    """Count things: ``1 shard``, ``2 shards``."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
