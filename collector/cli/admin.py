"""`collector add`, `remove`, `scale`, `rebalance` and `drain`: send an admin command, await it."""

import contextlib
import os
import time
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import click

from collector.cli import options, query, value_types
from collector.cli.command import Command
from collector.cli.query import ANSWER_S
from shards.protocol.errors import ConfigError

if TYPE_CHECKING:
    from collector.access.key_files import Keys

_EVERY_S: Final = 0.2


def _changing(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of every command that changes a running collector."""
    within = options.option(
        "--within", type=value_types.Number(float, above=0), metavar="SECONDS", default=60.0,
        show_default=True, help="Time to wait until it is done.",
    )  # fmt: skip
    return options.connect()(within(command))


_patterns: Final = click.argument(
    "markets", nargs=-1, required=True, metavar="MARKET...", type=value_types.Pattern()
)


@click.command(cls=Command)
@_patterns
@_changing
def add(*, markets: tuple[str, ...], connect: str, within: float) -> None:
    """
    Add markets to a running collector.

    MARKET is a ticker, a symbol, a glob of either, or a market id.
    """
    click.echo(order(connect, "add", within_s=within, markets=markets))


@click.command(cls=Command)
@_patterns
@_changing
def remove(*, markets: tuple[str, ...], connect: str, within: float) -> None:
    """
    Remove markets from a running collector.

    MARKET is a ticker, a symbol, a glob of either, or a market id.
    """
    click.echo(order(connect, "remove", within_s=within, markets=markets))


@click.command(cls=Command)
@click.argument("shards", type=value_types.Number(int, least=1))
@_changing
def scale(*, shards: int, connect: str, within: float) -> None:
    """Change a running collector's number of shards, without losing a frame."""
    click.echo(order(connect, "scale", within_s=within, number=shards))


@click.command(cls=Command)
@_changing
def rebalance(*, connect: str, within: float) -> None:
    """Move a running collector's markets until its shards carry equal loads."""
    click.echo(order(connect, "rebalance", within_s=within))


@click.command(cls=Command)
@click.argument("shard", type=value_types.Number(int, least=0))
@_changing
def drain(*, shard: int, connect: str, within: float) -> None:
    """Move all markets of a running collector's shard to the others, and stop it."""
    click.echo(order(connect, "drain", within_s=within, number=shard))


def order(connect: str, kind: str, *, within_s: float, **fields: Any) -> str:
    """
    Send an admin command to a running collector; return what was done.

    Raises:
        ConfigError: If there is no answer, it is refused, or it is not done in time.

    """
    from collector.client.requests import Refused, RequestClient

    endpoint, keys = _admin_endpoint(connect)
    asked = {"token": uuid.uuid4().hex, "order": {"kind": kind, **fields}}
    deadline = time.monotonic() + within_s
    silent_since = time.monotonic()
    is_begun = False
    with RequestClient(endpoint, keys) as client:
        while time.monotonic() < deadline:
            try:
                # Send the whole command each time: the aggregator may have restarted in between.
                said = client.ask("order", within_s=1.0, **asked)
            except TimeoutError as error:
                if time.monotonic() - silent_since > ANSWER_S:
                    raise ConfigError(str(error)) from None
                continue
            except Refused as refused:
                raise ConfigError(str(refused)) from None
            silent_since, is_begun = time.monotonic(), said["state"] != "waiting"
            if said["state"] == "done":
                return str(said["text"])
            if said["state"] == "refused":
                raise ConfigError(said["text"])
            time.sleep(_EVERY_S)
    raise ConfigError(_not_done(within_s, is_begun=is_begun))


def _not_done(within_s: float, *, is_begun: bool) -> str:
    if is_begun:
        how = f"not done within {within_s:g} s, and still going on"
    else:
        how = f"not begun within {within_s:g} s: it follows the command that is being carried out"
    return f"{how}: 'collector status --json' shows markets.moving"


def _admin_endpoint(connect: str) -> "tuple[str, Keys | None]":
    """
    Return a collector's endpoint for admin commands, and the keys to use there.

    Raises:
        ConfigError: If there is no answer, or it accepts no commands from us.

    """
    from collector.client.sockets import PLAIN, own

    try:
        summary = query.at(connect, query.ask_summary)
    except ConfigError:
        if own().secret or (found := _of_this_user(connect)) is None:
            raise
        return found, PLAIN
    endpoint = summary.admin
    if endpoint is None:
        raise ConfigError(f"the collector at {connect} takes no admin commands")
    path = endpoint.removeprefix("ipc://")
    try:
        os.stat(path)
    except (OSError, ValueError) as error:
        if (remote := summary.admin_remote) and own().secret:
            return _as_seen_from(connect, remote), None
        raise ConfigError(_not_here(connect, path, error)) from None
    return endpoint, PLAIN


def _of_this_user(connect: str) -> str | None:
    """Find the admin socket of a collector of this user, which requires no key; None without one."""
    from collector.client.requests import RequestClient
    from collector.client.sockets import PLAIN
    from collector.control.runtime_folder import admin_sockets
    from collector.settings.parts import connectable

    for path in admin_sockets():
        endpoint = f"ipc://{path}"
        with RequestClient(endpoint, PLAIN) as client, contextlib.suppress(ConfigError):
            if connectable(connect) in map(connectable, query.ask_summary(client).publish):
                return endpoint
    return None


def _not_here(connect: str, path: str, error: Exception) -> str:
    if isinstance(error, PermissionError):
        return (
            f"the collector at {connect} belongs to another user, and takes admin commands only "
            f"from that one: run this as the owner of {os.path.dirname(path)}"
        )
    return (
        f"the collector at {connect} takes admin commands on its own host only, "
        f"and its {path} is not on this one: run this there"
    )


def _as_seen_from(connect: str, admin: str) -> str:
    """Name the admin endpoint by the host that we know, where it listens at all addresses."""
    host, _, port = admin.rpartition(":")
    known = connect.rpartition(":")[0]
    return f"{known}:{port}" if host in ("tcp://0.0.0.0", "tcp://*", "tcp://[::]") else admin
