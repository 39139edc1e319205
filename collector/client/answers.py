"""Decode one part of an aggregator's answer. Pure."""

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

_Read = TypeVar("_Read")


def part(answer: Mapping[str, Any], name: str) -> Any:
    """
    Return one part of an aggregator's answer as it is.

    Raises:
        ValueError: If it is not there: something else answered.

    """
    try:
        return answer[name]
    except KeyError:
        raise ValueError(
            f"the answer to {name!r} has nothing of it: a collector of another version answered, or "
            "none"
        ) from None


def read(answer: Mapping[str, Any], name: str, kind: type[_Read]) -> _Read:
    """
    Decode one part of an aggregator's answer.

    Raises:
        ValueError: If it has another form: a collector of another version answered.

    """
    try:
        return msgspec.convert(answer.get(name), kind)
    except msgspec.ValidationError as error:
        raise ValueError(
            f"the collector's answer to {name!r} cannot be read, it is of another version: {error}"
        ) from None
