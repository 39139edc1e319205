"""
The HTTP server's process: a socket and an event loop, apart from the data path.

It is a separate process because a scrape of three hundred markets takes tens of milliseconds of
Python. In the aggregator's loop, or in a thread beside it, frames would wait for that.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator

import uvicorn

from collector.access import tls
from collector.http.address import listen
from collector.http.app import build
from collector.http.view import View
from collector.settings.parts import ServingConfig
from shards.runtime import child
from shards.runtime.child import ChildContext, Heartbeat


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(config: ServingConfig, listener: socket.socket, life: ChildContext) -> None:
    """Serve until asked to stop."""
    view = View(config.requests)
    server = _Server(
        uvicorn.Config(
            build(view, config),
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=1,
            **tls.of_server(config.tls),
        )
    )
    server.config.load()

    async def end() -> None:
        await life.stop.wait()
        server.should_exit = True

    beside = [
        asyncio.create_task(end()),
        asyncio.create_task(tls.follow(config.tls, server.config.ssl)),
    ]
    # A scrape's thousands of samples need not make the garbage collector look at all the rest.
    child.freeze_heap()
    try:
        await server.serve([listener])
    finally:
        for task in beside:
            task.cancel()
        view.close()


async def _listen_and_serve(config: ServingConfig, life: ChildContext) -> None:
    with listen(config.http) as listener:
        await serve(config, listener, life)


def main(config: ServingConfig, heartbeat: Heartbeat) -> None:
    """Run the HTTP server's process: entry point of the spawned child."""
    # Our supervisor already logs its start and end.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    child.run(
        "http",
        lambda life: _listen_and_serve(config, life),
        heartbeat,
        log_level=config.log_level,
        log_format=config.log_format,
    )
