"""
The page's process: started by `collector dashboard`, or as a child of `collector start --web`.

As a child it is supervised like the others, but nothing depends on it: if it fails it is
restarted, and the collector keeps collecting.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec
import uvicorn

from collector.access import tls
from collector.access.http_server import BoundedServer
from collector.access.tokens import Tokens
from collector.settings.addresses import endpoints_of
from collector.settings.parts import TlsConfig, connectable, requests_endpoint
from collector.web.address import address_of, is_loopback, listen, url_of
from collector.web.server import Page, application
from shards.protocol.errors import ConfigError
from shards.protocol.settings import LogFormat
from shards.runtime import child
from shards.runtime.child import ChildContext, Heartbeat
from shards.runtime.exit_codes import EXIT_BUG

__all__ = ["WebConfig", "address_of", "listen", "main", "run", "serve", "url_of"]

log = logging.getLogger(__name__)

_GOODBYE_S: Final = 2
_NICE: Final = 10
"""If the machine is short of CPU, collecting takes precedence over watching."""
_MESSAGE_BYTES: Final = 4_096


class WebConfig(msgspec.Struct, frozen=True, kw_only=True):
    """All settings of the page's process."""

    connect: str
    listen: str
    allow_remote: bool = False
    hosts: tuple[str, ...] = ()
    tls: TlsConfig = TlsConfig()
    log_level: str = "INFO"
    log_format: LogFormat = "text"


async def serve(config: WebConfig, listener: socket.socket, life: ChildContext) -> None:
    """Serve the page until asked to stop."""
    authorized = config.tls.authorized
    async with asyncio.TaskGroup() as tasks:
        page = Page(config.connect, tasks, Tokens(Path(authorized)) if authorized else None)
        server = BoundedServer(
            uvicorn.Config(
                application(page, config.hosts),
                log_level="warning",
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="websockets-sansio",
                ws_max_size=_MESSAGE_BYTES,
                # Compression costs more than loopback traffic, and 300 kB per connection.
                ws_per_message_deflate=False,
                timeout_graceful_shutdown=_GOODBYE_S,
                server_header=False,
                **tls.of_server(config.tls),
            )
        )
        server.config.load()

        async def end() -> None:
            await life.stop.wait()
            server.should_exit = True

        beside = [
            tasks.create_task(end()),
            tasks.create_task(tls.follow(config.tls, server.config.ssl)),
        ]
        try:
            await server.serve(sockets=[listener])
        finally:
            for task in beside:
                task.cancel()
            page.close()


def run(
    connect: str,
    at: str,
    *,
    allow_remote: bool,
    hosts: Iterable[str],
    tls: TlsConfig = TlsConfig(),  # noqa: B008 - it does not change
) -> None:
    """
    Serve the page of the cells at one or more endpoints, for `collector dashboard`.

    Raises:
        ConfigError: If the endpoint is invalid, or the page cannot be served there.

    """
    try:
        endpoints = [connectable(at) for at in endpoints_of(connect)]
        for at_endpoint in endpoints:
            requests_endpoint(at_endpoint)
    except ValueError as error:
        raise ConfigError(f"--connect {error}") from None
    config = WebConfig(connect=",".join(endpoints), listen=at, hosts=tuple(hosts), tls=tls)
    with listen(at, option="--listen", allow_remote=allow_remote, tls=tls) as listener:
        _warn(listener, tls)
        log.info("the page of %s is at %s", connect, url_of(listener, tls))
        os.nice(_NICE)
        child.run_loop(lambda life: serve(config, listener, life))


def _warn(listener: socket.socket, tls: TlsConfig) -> None:
    host = listener.getsockname()[0]
    if not is_loopback(host) and not tls.authorized:
        log.warning("other machines can see the page at %s: there is no password", host)


async def _listen_and_serve(config: WebConfig, life: ChildContext) -> None:
    allowed, told = config.allow_remote, config.tls
    with listen(config.listen, option="--web", allow_remote=allowed, tls=told) as listener:
        _warn(listener, told)
        await serve(config, listener, life)


def main(config: WebConfig, heartbeat: Heartbeat) -> None:
    """Run the page's process under `collector start`: entry point of the spawned child."""
    os.nice(_NICE)
    child.run(
        "web",
        lambda life: _listen_and_serve(config, life),
        heartbeat,
        log_level=config.log_level,
        log_format=config.log_format,
        # Not the exit code that stops the whole collector: a page must not be able to do that.
        exit_config=EXIT_BUG,
    )
