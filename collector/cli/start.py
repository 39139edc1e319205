"""`collector start`: from options, environment and file to a running collector."""

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from collector.cli import options, summary_file
from collector.cli.command import Command
from collector.settings import addresses, installed
from collector.settings.config_file import File, read
from collector.settings.start_options import ROWS, StartOptions
from shards.protocol.errors import ConfigError
from shards.runtime.exit_codes import EXIT_OK

if TYPE_CHECKING:
    from collector.control.supervisor import Child


log = logging.getLogger(__name__)

_OF_DEVNET: Final = ("devnet_spot", "devnet_perp", "devnet_options")
_OF_HTTP: Final = ("ready_coverage", "metrics_markets")


@click.command(cls=Command)
@options.config
@options.of_start()
def start(*, config: str | None, **_: Any) -> None:
    """
    Collect: distribute the markets over shards, publish their frames.

    Every option can also be set in the file of --config and in the environment. The command line
    takes precedence over the environment, the environment over the file. Ctrl-C or SIGTERM drains
    and stops; a second one forces.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_IGN:
            continue
        # Nothing runs yet. No exception: Python drops one that is raised in the callbacks of its
        # import locks, and then the signal is lost.
        signal.signal(number, lambda *_: os._exit(EXIT_OK))
    ctx = click.get_current_context()
    file = read(config) if config else File()
    given = {name: value for name, value in options.given(ctx).items() if name in ROWS}
    asked = Asked(
        options=StartOptions(**{**file.options, **given}),
        file=file,
        origins={
            **{name: f"{file.path}: {name}" for name in file.options},
            **{p.name: options.origin(ctx, p) for p in ctx.command.params if p.name in given},
        },
    )
    sys.exit(run(asked))


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """The options of a run, and where each was given."""

    options: StartOptions
    file: File
    origins: Mapping[str, str]
    """Where an option was given: ``--shards``, ``COLLECTOR_START_SHARDS``, ``F.toml: shards``."""

    def origin(self, name: str) -> str:
        """Return where an option was given, for messages; for a default its name."""
        return self.origins.get(name, ROWS[name].flag)


def run(asked: Asked) -> int:
    """
    Run a collector with these options; return its exit code.

    Raises:
        ConfigError: If it cannot run with them.

    """
    from shards.runtime import logs

    told = asked.options
    logs.configure("coordinator", level=told.log_level, form=told.log_format)
    for name, note in asked.file.notes.items():
        if asked.origin(name) == f"{asked.file.path}: {name}":
            log.warning("%s: %s", asked.file.path, note)
    _check(asked)
    from collector.cli.progress import StatusBlock
    from collector.control.coordinator import Coordinator
    from collector.control.template import Template
    from shards.adapters import registry

    views, url = _web(asked)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            # All is imported, and from here on there is something to tidy up.
            signal.signal(number, lambda *_: sys.exit(EXIT_OK))
    # Log lines for programs are not mixed with a picture for people.
    with (
        contextlib.closing(Template(registry.preload)) as template,
        StatusBlock(live=told.log_format == "text") as block,
    ):
        coordinator = Coordinator(
            told,
            asked.file,
            show=block.show,
            announce=block.announce,
            views=views,
            page=url,
            launch=template.launch,
        )
        code, found = coordinator.run()
    if told.summary and found is not None:
        summary_file.write(told.summary, found, asked.origin("summary"))
    return code


def _check(asked: Asked) -> None:
    """Check at once everything that can be known to fail later."""
    from collector.access import config as access_config
    from collector.markets import networks
    from shards.adapters import registry

    told = asked.options
    source = told.source or networks.source(told.network, asked.file)
    adapter = registry.adapter(source)
    adapter.check(told.channels, asked.origin("channels"))
    if told.per_market and not adapter.can_be_per_market:
        able = " or ".join(one.name for one in registry.adapters() if one.can_be_per_market)
        raise ConfigError(
            f"{asked.origin('per_market')} is for the source {able}, and {source} is read"
        )
    if told.redundancy > 1 and not adapter.can_be_redundant:
        able = " or ".join(one.name for one in registry.adapters() if one.can_be_redundant)
        raise ConfigError(
            f"{asked.origin('redundancy')} is for the source {able}, and {source} is read"
        )
    if told.redundancy > 1:
        networks.check_redundancy(told.redundancy, told.network, asked.file, source)
    for name, needs, has in (
        *((name, "--network devnet", told.network == "devnet") for name in _OF_DEVNET),
        *((name, "--http", bool(told.http)) for name in _OF_HTTP),
        ("web_allow_remote", "--web", bool(told.web)),
    ):
        # A file may contain settings that only some uses need.
        if not has and name in asked.origins and name not in asked.file.options:
            raise ConfigError(f"{asked.origin(name)} changes nothing without {needs}")
    _check_addresses(asked)
    if told.record:
        installed.need("pyarrow", "archive", asked.origin("record"))
    access_config.check_start(told, asked.origin)
    if told.summary:
        summary_file.check(told.summary, asked.origin("summary"))


def _check_addresses(asked: Asked) -> None:
    told = asked.options
    claims: list[addresses.Claim] = []
    for name, values in (("publish", told.publish), ("http", told.http), ("web", told.web)):
        try:
            if isinstance(values, tuple):
                for endpoint in values:
                    claims += addresses.of_publish(endpoint, asked.origin(name))
            elif values:
                claims.append(
                    addresses.of_listener(values, asked.origin(name), least=name == "http")
                )
        except ValueError as error:
            raise ConfigError(f"{asked.origin(name)} {error}") from None
    if not told.publish:
        raise ConfigError(f"{asked.origin('publish')} names no endpoint")
    if told.admin and told.admin.startswith("tcp://"):
        claims.append(addresses.of_admin(told.admin, asked.origin("admin")))
    if found := addresses.collision(claims):
        raise ConfigError(found)


def _web(asked: Asked) -> "tuple[list[Callable[[str], Child]], str]":
    """
    Return how to create the child that serves the web page, if requested, and its address.

    Raises:
        ConfigError: If it cannot be served there.

    """
    told = asked.options
    if not told.web:
        return [], ""
    try:
        from collector.web import process
    except ModuleNotFoundError as error:
        missing = installed.missing("web", f"{error.name} is")
        raise ConfigError(f"{asked.origin('web')}: {missing}") from None
    from collector.access.config import tls_of
    from collector.control.supervisor import Child

    host, port = addresses.host_port(told.web, least=0)
    at = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    tls, allowed = tls_of(told), told.web_allow_remote or told.insecure
    with process.listen(at, option="--web", allow_remote=allowed, tls=tls) as listener:
        # Choose the port here, so that every start of the child uses the same one.
        address, url = process.address_of(listener), process.url_of(listener, tls)

    def page(connect: str) -> Child:
        config = process.WebConfig(
            connect=connect,
            listen=address,
            allow_remote=allowed,
            tls=tls,
            log_level=told.log_level,
            log_format=told.log_format,
        )
        return Child("web", process.main, lambda: config)

    return [page], url
