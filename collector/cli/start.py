"""From the options of `collector start` to a running coordinator, and its summary out."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from collector.cli.progress import StatusBlock
from collector.control.coordinator import Coordinator, StartOptions
from collector.control.supervisor import Child
from collector.markets import networks
from collector.settings.parts import DEFAULT_PUBLISH, connectable, requests_endpoint
from collector.web.command import missing
from shards.protocol.errors import ConfigError


def start(
    *,
    shards: int | None,
    network: str,
    config: str | None,
    publish: tuple[str, ...],
    duration: float | None,
    summary: str | None,
    web: str | None,
    web_allow_remote: bool,
    **options: Any,
) -> int:
    """Run a collector as asked; return its exit code."""
    file = networks.read(config) if config else networks.File()
    shards = shards if shards is not None else file.shards or 1
    if shards < 1:
        raise ConfigError(f"--shards {shards}: at least one is needed")
    endpoints = publish or file.publish or (DEFAULT_PUBLISH,)
    for endpoint in endpoints:
        try:
            requests_endpoint(endpoint)
        except ValueError as error:
            raise ConfigError(f"--publish {error}") from None
    _writable(summary)
    options["source"] = options["source"] or networks.source(network, file)
    options["channels"] = options["channels"] or file.channels
    for name in ("min_activity", "top", "http", "ready_coverage", "metrics_markets", "state"):
        if options[name] is None:
            options[name] = getattr(file, name)
    web, remote = web or file.web, web_allow_remote or file.web_allow_remote
    views, url = _web(web, endpoints[0], remote, options)
    asked = StartOptions(
        shards=shards,
        network=network,
        file=file,
        publish=endpoints,
        duration_s=duration,
        devnet_spot=options.pop("devnet_spot"),
        devnet_perp=options.pop("devnet_perp"),
        web=url,
        **options,
    )
    # Lines for a program are not mixed with a picture for people.
    with StatusBlock(live=asked.log_format == "text") as block:
        coordinator = Coordinator(asked, show=block.show, announce=block.announce, views=views)
        code, found = coordinator.run()
    if summary:
        _write(summary, found)
    return code


def _web(
    web: str | None, publish: str, allow_remote: bool, options: Mapping[str, Any]
) -> tuple[list[Child], str]:
    """
    Make the child that serves the web page, if there is to be one, and say where that will be.

    Raises:
        ConfigError: If it cannot be served there.

    """
    if web is None:
        return [], ""
    try:
        from collector.web import process
    except ModuleNotFoundError as error:
        raise ConfigError(f"--web: {missing(error)}") from None
    with process.listen(web, option="--web", allow_remote=allow_remote) as listener:
        # The address is settled here: each start of the child is to have the same one.
        address, url = process.address_of(listener), process.url_of(listener)
    config = process.WebConfig(
        connect=connectable(publish),
        listen=address,
        allow_remote=allow_remote,
        log_level=options["log_level"],
        log_format=options["log_format"],
    )
    return [Child("web", process.main, lambda: config)], url


def _writable(summary: str | None) -> None:
    """Find out now, not after a day of collecting, that the summary cannot be written."""
    if summary and summary != "-":
        try:
            Path(summary).touch()
        except OSError as error:
            raise ConfigError(f"--summary {summary}: {error.strerror}") from None


def _write(summary: str, found: dict[str, Any]) -> None:
    text = json.dumps(found, indent=2)
    if summary == "-":
        click.echo(text)
        sys.stdout.flush()
    else:
        Path(summary).write_text(text + "\n")
