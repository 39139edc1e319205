"""
Options with environment twins, the types of their values, and those that commands share.

The twin has the option's name: ``--market`` of ``start`` is ``COLLECTOR_START_MARKET``. Older
names of some twins are still read. Several values are separated by commas, since tickers may
contain blanks: ``BTC/USDT PERP``.
"""

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from click.core import ParameterSource

from collector.markets.parts import Part
from collector.settings import start_options, wording
from collector.settings.addresses import endpoints_of, host_port
from collector.settings.parts import DEFAULT_PUBLISH, DEFAULT_WEB, requests_endpoint
from collector.settings.start_options import OptionRow, twin_of

if TYPE_CHECKING:
    ParamType = click.ParamType[Any]
else:
    # Older releases of click do not define it as a generic.
    ParamType = click.ParamType

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])


class Option(click.Option):
    """An option with its environment twin, and the twin's older name if there is one."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        # click would read only the older name.
        self.allow_from_autoenv = False

    @property
    def flag(self) -> str:
        """The option's main name: the longest one."""
        return max(self.opts, key=len)

    def twins(self, command: str) -> tuple[str, ...]:
        """Return the option's environment twins for a command, the older name last."""
        if self.hidden:
            return ()
        older = twin_of(command, self.name or "")
        return tuple(dict.fromkeys((twin_of(command, self.flag), older)))

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """Read the twin; an empty value counts as unset."""
        for name in self.twins(ctx.command.name or ""):
            if value := os.environ.get(name):
                ctx.meta[_origin_key(self)] = name
                return value
        return None

    def value_from_envvar(self, ctx: click.Context) -> Any:
        """Split several values."""
        value = self.resolve_envvar_value(ctx)
        if value is None or not self.multiple:
            return super().value_from_envvar(ctx)
        older = ctx.meta[_origin_key(self)] != self.twins(ctx.command.name or "")[0]
        return separated(value, by_blanks=older or self.name != "markets")


def _origin_key(parameter: click.Parameter) -> str:
    return f"collector.twin.{parameter.name}"


def separated(text: str, *, by_blanks: bool) -> tuple[str, ...]:
    """
    Split a twin's values at commas and line ends.

    If there are none, and values contain no blanks, split at blanks.
    """
    if by_blanks and not {",", "\n"} & set(text):
        return tuple(text.split())
    parts = (part.strip() for part in text.replace("\n", ",").split(","))
    return tuple(part for part in parts if part)


def origin(ctx: click.Context, parameter: click.Parameter) -> str:
    """Return where a parameter was set: the option's name, or its twin's."""
    found = ctx.meta.get(_origin_key(parameter))
    if isinstance(parameter, Option):
        return str(found or parameter.flag)
    return parameter.human_readable_name


def given(ctx: click.Context) -> dict[str, Any]:
    """Return the parameters set on the command line or in the environment, without defaults."""
    said = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)
    return {
        name: value for name, value in ctx.params.items() if ctx.get_parameter_source(name) in said
    }


# -- types of values ----------------------------------------------------------------------


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

    def __init__(
        self, kind: type[int] | type[float], *, least: float = -math.inf, above: float = -math.inf,
        most: float = math.inf,
    ) -> None:  # fmt: skip
        super().__init__(kind, name="number")
        self._bounds = (least, above, most)

    def convert(self, value: Any, param: Any, ctx: click.Context | None) -> Any:
        """Convert a text and check the bounds."""
        least, above, most = self._bounds
        try:
            number = self.kind(value)
        except (ValueError, TypeError):
            number = math.nan
        if not (least <= number <= most and number > above and math.isfinite(number)):
            # Show a number as typed, without quotes.
            what = value if math.isnan(number) and value != "nan" else number
            self.fail(f"must be {self._expected()}, not {wording.shown(what)}", param, ctx)
        return number

    def _expected(self) -> str:
        least, above, most = self._bounds
        said = [f"of at least {least:g}"] if least > -math.inf else []
        said += [f"greater than {above:g}"] if above > -math.inf else []
        said += [f"at most {most:g}"] if most < math.inf else []
        what = "a whole number" if self.kind is int else "a number"
        return f"{what} {' and '.join(said)}".rstrip()


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
        return float(int(number) * days[text[-1]])


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
        if text[-2:] not in self._UNITS or not 0 < number < math.inf:
            self.fail(f"{value!r} is no size: write 500MB, 200GB or 1.5TB", param, ctx)
        return int(number * 1000 ** self._UNITS[text[-2:]])


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


# -- options that commands share ----------------------------------------------------------


def option(*names: str, **settings: Any) -> Callable[[_Decorated], _Decorated]:
    """Add an option with an environment twin."""
    return click.option(*names, cls=Option, **settings)


def connect(
    text: str = "The collector's publish endpoint.", *, several: bool = False, **settings: Any
) -> Callable[[_Decorated], _Decorated]:
    """Add the option that selects the collector to query, or several cells."""
    settings = {"default": DEFAULT_PUBLISH, "show_default": True} | settings
    settings |= {"metavar": "ENDPOINT", "type": Endpoint()}
    if several:
        text += " Several, separated by commas, are cells of one chain (docs/cells.md)."
        settings |= {"metavar": "ENDPOINT[,ENDPOINT…]", "type": Endpoints()}
    endpoint = option("--connect", help=text, **settings)
    own_keys = option(
        "--keys", metavar="FILE", type=click.Path(), callback=_use_keys, expose_value=False,
        help="Your key file, if the collector requires keys ('collector keys new').  "
        "[default: none]",
    )  # fmt: skip

    def add(command: _Decorated) -> _Decorated:
        return endpoint(own_keys(command))

    return add


def _use_keys(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
    """Ask with the keys of a file from here on."""
    if not value:
        return
    from collector.access.key_files import Keys
    from collector.client import sockets

    sockets.use(Keys.read(value).of_client())


def market(text: str) -> Callable[[_Decorated], _Decorated]:
    """Add the option that selects markets by pattern."""
    return option(
        "--market", "markets", multiple=True, metavar="PATTERN", type=Pattern(),
        help=f"{text}  [default: all]",
    )  # fmt: skip


def channel(text: str, names: Sequence[str], shown: str) -> Callable[[_Decorated], _Decorated]:
    """Add the option that selects channels by name."""
    return option(
        "--channel", "channels", multiple=True, metavar="CHANNEL", type=Value(str, names),
        help=f"{text}  [default: {shown}]",
    )  # fmt: skip


def json(text: str) -> Callable[[_Decorated], _Decorated]:
    """Add the option for machine-readable output."""
    return option("--json", "as_json", is_flag=True, help=text)


def door(command: _Decorated) -> _Decorated:
    """Add the options of a publisher: its keys, the authorized keys, --insecure."""
    return of_start(["keys", "authorized_keys", "insecure"])(command)


def config(command: _Decorated) -> _Decorated:
    """Add the option that names the configuration file."""
    return option(
        "--config",
        type=click.Path(),
        metavar="FILE",
        help="TOML file with any of these options and more: endpoints, limits "
        "(docs/operations.md).",
    )(command)


def of_start(names: Iterable[str] = start_options.ROWS) -> Callable[[_Decorated], _Decorated]:
    """Add options of `collector start`, as described by its options struct."""

    def add(command: _Decorated) -> _Decorated:
        for name in reversed(list(names)):
            command = _made_of(start_options.ROWS[name])(command)
        return command

    return add


_FORMS: Final[Mapping[str, ParamType]] = {
    "markets": Pattern(),
    "part": PartOf(),
    "publish": Endpoint(),
    "admin": Endpoint(),
    "http": Address(least=1),
    "web": Address(least=0),
}
"""Texts with their own format, by field name."""


def _made_of(row: OptionRow) -> Callable[[_Decorated], _Decorated]:
    settings: dict[str, Any] = {"help": f"{row.help}  [default: {row.shown_default}]"}
    if row.is_flag:
        return option(row.flag, row.name, is_flag=True, help=row.help)
    if row.name == "web":
        # Without a value it means the usual address.
        settings |= {"is_flag": False, "flag_value": DEFAULT_WEB}
    if row.is_list:
        settings["multiple"] = True
    item = str if row.is_list else row.type
    kind: ParamType = Value(item, row.choices)
    kind = _FORMS.get(row.name, kind)
    return option(row.flag, row.name, metavar=row.metavar or None, type=kind, **settings)
