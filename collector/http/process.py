"""
The HTTP server's process: a socket and an event loop, apart from the data path.

It is a separate process because a scrape of three hundred markets takes tens of milliseconds of
Python. In the aggregator's loop, or in a thread beside it, frames would wait for that.
"""

import asyncio
import logging
import socket
from collections import Counter

import uvicorn

from collector.access import tls
from collector.access.http_server import BoundedServer
from collector.http.address import listen
from collector.http.app import build
from collector.http.view import View
from collector.settings.parts import ServingConfig
from shards.runtime import child
from shards.runtime.child import ChildContext, Heartbeat


async def serve(config: ServingConfig, listener: socket.socket, life: ChildContext) -> None:
    """Serve until asked to stop."""
    view = View(config.requests)
    closed: Counter[str] = Counter()
    server = BoundedServer(
        uvicorn.Config(
            build(view, config, closed),
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=1,
            **tls.of_server(config.tls),
        ),
        closed,
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
