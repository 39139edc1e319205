"""
Options with environment twins, and those that commands share.

The twin has the option's name: ``--market`` of ``start`` is ``COLLECTOR_START_MARKET``. Older
names of some twins are still read. Several values are separated by commas, since tickers may
contain blanks: ``BTC/USDT PERP``.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

import click
from click.core import ParameterSource

from collector.cli.value_types import (
    Address,
    Endpoint,
    Endpoints,
    ParamType,
    PartOf,
    Pattern,
    Value,
    separated,
)
from collector.settings import start_options
from collector.settings.parts import DEFAULT_PUBLISH, DEFAULT_WEB
from collector.settings.start_options import OptionRow, twin_of

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

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        """Refuse an empty text: it is a shell's variable that is not set, and none was meant."""
        found = super().type_cast_value(ctx, value)
        is_typed = ctx.get_parameter_source(self.name or "") is ParameterSource.COMMANDLINE
        if is_typed and (value == "" or (self.multiple and "" in value)):
            raise click.BadParameter("is empty: give it a value, or leave it out", ctx, self)
        return found


def _origin_key(parameter: click.Parameter) -> str:
    return f"collector.twin.{parameter.name}"


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


# -- options that commands share ----------------------------------------------------------

_GIVEN: Final = "collector.given"
"""Where click's context keeps the key files and the endpoints of a command."""


def option(*names: str, **settings: Any) -> Callable[[_Decorated], _Decorated]:
    """Add an option with an environment twin."""
    return click.option(*names, cls=Option, **settings)


def connect(
    text: str = "The collector's publish endpoint.", *, several: bool = False, **settings: Any
) -> Callable[[_Decorated], _Decorated]:
    """Add the option that selects the collector to query, or several cells."""
    settings = {"default": DEFAULT_PUBLISH, "show_default": True} | settings
    settings |= {"metavar": "ENDPOINT", "type": Endpoint()}
    file, files = "FILE", ""
    if several:
        text += " Several, separated by commas, are cells of one chain (docs/cells.md)."
        settings |= {"metavar": "ENDPOINT[,ENDPOINT…]", "type": Endpoints()}
        file, files = "FILE[,FILE…]", " Cells with different keys need one for each."
    endpoint = option("--connect", callback=_use_keys, help=text, **settings)
    own_keys = option(
        "--keys", metavar=file, type=click.Path(), callback=_use_keys, expose_value=False,
        help=f"Your key file, if the collector requires keys ('collector keys new').{files}  "
        "[default: none]",
    )  # fmt: skip

    def add(command: _Decorated) -> _Decorated:
        return endpoint(own_keys(command))

    return add


def cluster(command: _Decorated) -> _Decorated:
    """Add the option that names a cluster instead of its cells."""
    return option(
        "--cluster", metavar="ENDPOINT[,ENDPOINT…]", type=Endpoints(),
        help="Instead of --connect: a few cells of a cluster, which tell where the others are "
        "(docs/cluster.md).",
    )(command)  # fmt: skip


def _use_keys(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Ask with these key files from here on, once the endpoints are known too."""
    given: dict[str | None, str | None] = ctx.meta.setdefault(_GIVEN, {})
    given[parameter.name] = value
    files = given.get("keys")
    if not files or "connect" not in given:
        return value
    from collector.access import key_files
    from collector.client import sockets
    from collector.settings.addresses import endpoints_of
    from collector.settings.parts import connectable, requests_endpoint

    endpoints = endpoints_of(given["connect"] or DEFAULT_PUBLISH)
    keys = key_files.read_each(files, len(endpoints), "--keys")
    sockets.use(keys[0])
    for endpoint, one in zip(endpoints, keys, strict=True):
        for at in (endpoint, connectable(endpoint)):
            sockets.use_at(at, one)
            sockets.use_at(requests_endpoint(at), one)
    return value


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
