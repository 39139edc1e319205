"""The types of values that options take, and the sentences for wrong values."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from collector.markets.parts import Part
from collector.settings import wording
from collector.settings.addresses import endpoints_of, host_port
from collector.settings.parts import requests_endpoint

if TYPE_CHECKING:
    ParamType = click.ParamType[Any]
else:
    # Older releases of click do not define it as a generic.
    ParamType = click.ParamType


class Value(ParamType):
    """A value of a bounded type, or one of several words; anything else is an error."""

    def __init__(self, kind: Any, choices: Sequence[str] = (), name: str = "text") -> None:
        self.kind = kind
        self.choices = tuple(choices)
        self.name = name

    def convert(self, value: Any, param: Any, ctx: click.Context | None) -> Any:
        """Convert a text; defaults may already be converted."""
        if self.choices:
            folded = {choice.casefold(): choice for choice in self.choices}
            value = folded.get(str(value).casefold(), value)
        try:
            return wording.converted(value, self.kind, self.choices, strict=False)
        except ValueError as error:
            self.fail(f"must be {error}", param, ctx)

    def get_metavar(self, param: click.Parameter, *_: Any, **__: Any) -> str | None:
        """Show the available words."""
        return f"[{'|'.join(self.choices)}]" if self.choices else None

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[Any]:
        """Complete from the available words."""
        from click.shell_completion import CompletionItem

        return [CompletionItem(choice) for choice in self.choices if choice.startswith(incomplete)]


class Number(Value):
    """A number within bounds; nan and infinities are refused."""

    # More is never meant, and a message to a collector holds no number of any length.
    _MOST: Final = 1e9

    def __init__(
        self, kind: type[int] | type[float], *, least: float = -math.inf, above: float = -math.inf,
        most: float = _MOST,
    ) -> None:  # fmt: skip
        super().__init__(kind, name="number")
        self._bounds = (least, above, most)

    def convert(self, value: Any, param: Any, ctx: click.Context | None) -> Any:
        """Convert a text and check the bounds."""
        least, above, most = self._bounds
        try:
            number = wording.converted(value, self.kind, strict=False)
        except ValueError:
            # No comparison holds for it.
            number = math.nan
        if not (least <= number <= most and number > above):
            what = wording.shown(wording.as_number(value))
            self.fail(f"must be {self._expected()}, not {what}", param, ctx)
        return number

    def _expected(self) -> str:
        least, above, most = self._bounds
        said = [f"of at least {least:g}"] if least > -math.inf else []
        said += [f"greater than {above:g}"] if above > -math.inf else []
        said += [f"at most {most:,.10g}"]
        what = "a whole number" if self.kind is int else "a number"
        return f"{what} {' and '.join(said)}"


class SyncAge(Number):
    """How many seconds data may wait until it is on the disk; ``block`` is 0, ``second`` 1."""

    _WORDS: Final = {"block": 0.0, "second": 1.0}

    def __init__(self) -> None:
        super().__init__(float, above=0, most=60)

    def convert(self, value: Any, param: Any, ctx: click.Context | None) -> float:
        """Return the seconds."""
        word = self._WORDS.get(str(value).casefold())
        return float(super().convert(value, param, ctx)) if word is None else word

    def get_metavar(self, param: click.Parameter, *_: Any, **__: Any) -> str:
        """Show the words and the number."""
        return "[block|second|SECONDS]"

    def _expected(self) -> str:
        return "'block', 'second', or seconds: " + super()._expected()


class Days(ParamType):
    """An age in whole days or weeks: 30d, 12w."""

    name = "age"
    _MOST: Final = 36_525

    def convert(self, value: Any, param: Any, ctx: click.Context | None) -> float:
        """Return the days."""
        if isinstance(value, float):
            return value
        text, days = str(value).strip().lower(), {"d": 1, "w": 7}
        number = text[:-1]
        if (
            text[-1:] not in days
            or not (number.isascii() and number.isdecimal())
            or not int(number)
        ):
            self.fail(f"{value!r} is no age: write days or weeks, as 30d or 12w", param, ctx)
        if (age := int(number) * days[text[-1]]) > self._MOST:
            self.fail(f"{value!r} is more than a hundred years", param, ctx)
        return float(age)


class Size(ParamType):
    """A number of bytes with its unit: 500MB, 1.5TB; decimal units."""

    name = "size"
    _UNITS: Final = {"kb": 1, "mb": 2, "gb": 3, "tb": 4}

    def convert(self, value: Any, param: Any, ctx: click.Context | None) -> int:
        """Return the bytes."""
        if isinstance(value, int):
            return value
        text = str(value).strip().lower().replace(" ", "")
        try:
            number = float(text[:-2])
        except ValueError:
            number = math.nan
        size = number * 1000 ** self._UNITS.get(text[-2:], 0)
        if text[-2:] not in self._UNITS or not 1 <= size < math.inf:
            self.fail(f"{value!r} is no size: write 500MB, 200GB or 1.5TB", param, ctx)
        return int(size)


class Endpoint(ParamType):
    """A publish endpoint, tcp or ipc."""

    name = "endpoint"

    def convert(self, value: Any, param: Any, ctx: click.Context | None) -> str:
        """Check its form."""
        try:
            requests_endpoint(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return str(value)


class PartOf(ParamType):
    """One part of several: I/N."""

    name = "part"

    def convert(self, value: Any, param: Any, ctx: click.Context | None) -> str:
        """Check its form."""
        try:
            return str(Part.parse(str(value)))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Endpoints(ParamType):
    """Publish endpoints of one or more cells, separated by commas."""

    name = "endpoints"

    def convert(self, value: Any, param: Any, ctx: click.Context | None) -> str:
        """Check their form."""
        try:
            for endpoint in endpoints_of(value):
                requests_endpoint(endpoint)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return str(value)


class Address(ParamType):
    """An HTTP address: HOST:PORT, or a port on loopback."""

    name = "address"

    def __init__(self, least: int) -> None:
        self._least = least

    def convert(self, value: Any, param: Any, ctx: click.Context | None) -> str:
        """Check its form."""
        try:
            host_port(value, least=self._least)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return str(value)


class Pattern(ParamType):
    """A pattern that selects markets."""

    name = "pattern"

    def convert(self, value: Any, param: Any, ctx: click.Context | None) -> str:
        """Refuse an empty pattern, which matches nothing."""
        if not str(value).strip():
            self.fail("must name a market, and is empty", param, ctx)
        return str(value)


def separated(text: str, *, by_blanks: bool) -> tuple[str, ...]:
    """
    Split a twin's values at commas and line ends.

    If there are none, and values contain no blanks, split at blanks.
    """
    if by_blanks and not {",", "\n"} & set(text):
        return tuple(text.split())
    parts = (part.strip() for part in text.replace("\n", ",").split(","))
    return tuple(part for part in parts if part)
