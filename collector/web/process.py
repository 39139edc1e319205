"""
The page's process: started by `collector dashboard`, or as a child of `collector start --web`.

As a child it is supervised like the others, and nothing depends on it: whatever goes wrong
with it, it is started again and the collector collects.
"""

import asyncio
import contextlib
import faulthandler
import logging
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection
from typing import Any, Final

import msgspec
import setproctitle
import uvicorn
import uvloop

from collector.settings.parts import connectable, requests_endpoint
from collector.web.listening import address_of, is_loopback, listen, url_of
from collector.web.server import Page, application
from shards.protocol.errors import ConfigError
from shards.protocol.settings import LogFormat
from shards.runtime import logs

__all__ = ["WebConfig", "address_of", "listen", "main", "run", "serve", "url_of"]

log = logging.getLogger(__name__)

_BEAT_S: Final = 0.1
_GOODBYE_S: Final = 2
_NICE: Final = 10
"""Where the machine is short of CPU, what collects goes before what looks on."""
_MESSAGE_BYTES: Final = 4_096


class WebConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the page's process needs to know."""

    connect: str
    listen: str
    allow_remote: bool = False
    hosts: tuple[str, ...] = ()
    log_level: str = "INFO"
    log_format: LogFormat = "text"


class _Server(uvicorn.Server):
    """uvicorn, which otherwise takes the signals and sends them on when it is done."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(
    config: WebConfig,
    listener: socket.socket,
    *,
    beat: Callable[[], None],
    parent: Connection | int | None = None,
) -> None:
    """Serve the page until SIGTERM, SIGINT or the parent's death."""
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as tasks:
        page = Page(config.connect, tasks)
        server = _Server(
            uvicorn.Config(
                application(page, config.hosts),
                log_level="warning",
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="websockets-sansio",
                ws_max_size=_MESSAGE_BYTES,
                # Compression costs more than loopback does, and 300 kB a connection.
                ws_per_message_deflate=False,
                timeout_graceful_shutdown=_GOODBYE_S,
                server_header=False,
            )
        )

        def stop() -> None:
            server.should_exit = True

        loop.add_signal_handler(signal.SIGTERM, stop)
        if parent is None:
            loop.add_signal_handler(signal.SIGINT, stop)
        else:
            # Ctrl-C reaches the whole group; the coordinator says when it is our turn.
            loop.add_signal_handler(signal.SIGINT, lambda: None)
            loop.add_reader(parent, stop)
        beating = tasks.create_task(_beat(beat))
        try:
            await server.serve(sockets=[listener])
        finally:
            beating.cancel()
            page.close()


async def _beat(beat: Callable[[], None]) -> None:
    while True:
        beat()
        await asyncio.sleep(_BEAT_S)


def run(connect: str, at: str, *, allow_remote: bool, hosts: Iterable[str]) -> None:
    """
    Serve the page of the collector at an endpoint, for `collector dashboard`.

    Raises:
        ConfigError: If the endpoint is none, or the page cannot be served there.

    """
    try:
        requests_endpoint(connect)
    except ValueError as error:
        raise ConfigError(f"--connect {error}") from None
    config = WebConfig(connect=connectable(connect), listen=at, hosts=tuple(hosts))
    with listen(at, option="--listen", allow_remote=allow_remote) as listener:
        _warn(listener)
        log.info("the page of %s is at %s", connect, url_of(listener))
        os.nice(_NICE)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(config, listener, beat=lambda: None))


def _warn(listener: socket.socket) -> None:
    host = listener.getsockname()[0]
    if not is_loopback(host):
        log.warning("other machines can see the page at %s: there is no password", host)


def main(config: WebConfig, heartbeat: Any) -> None:
    """Be the page's process under `collector start`: entry point of the spawned child."""
    faulthandler.enable()
    os.nice(_NICE)
    setproctitle.setproctitle("collector: web")
    logs.configure("web", level=config.log_level, form=config.log_format)

    def beat() -> None:
        heartbeat.value = time.monotonic()

    parent = multiprocessing.parent_process()
    try:
        with listen(config.listen, option="--web", allow_remote=config.allow_remote) as listener:
            _warn(listener)
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                sentinel = parent.sentinel if parent else None
                runner.run(serve(config, listener, beat=beat, parent=sentinel))
    except ConfigError as error:
        # Not the exit code of configuration errors, which would stop the whole collector:
        # the page must not be able to do that. It is tried again.
        log.error("%s", error)
        raise SystemExit(1) from None
