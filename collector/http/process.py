"""
The HTTP server's process: a socket, a loop, and nothing of the data path.

It is a process of its own because a scrape of three hundred markets is tens of milliseconds of
Python: in the aggregator's loop, or in a thread beside it, frames would wait for that.
"""

import asyncio
import contextlib
import faulthandler
import gc
import logging
import multiprocessing
import signal
import socket
import time
from collections.abc import Iterator
from typing import Any, Final

import setproctitle
import uvicorn
import uvloop

from collector.http.app import build
from collector.http.listening import listen
from collector.http.view import View
from collector.settings.parts import ServingConfig
from shards.protocol.errors import EXIT_CONFIG, ConfigError
from shards.runtime import logs

log = logging.getLogger(__name__)

_BEAT_S: Final = 0.1


class _Server(uvicorn.Server):
    """uvicorn, with signals left to us."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _beat(heartbeat: Any) -> None:
    while True:
        heartbeat.value = time.monotonic()
        await asyncio.sleep(_BEAT_S)


async def serve(config: ServingConfig, heartbeat: Any, listener: socket.socket) -> None:
    """Serve until SIGTERM or the parent's death."""
    loop = asyncio.get_running_loop()
    view = View(config.requests)
    server = _Server(
        uvicorn.Config(
            build(view, config),
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=1,
        )
    )

    def stop() -> None:
        server.should_exit = True

    loop.add_signal_handler(signal.SIGTERM, stop)
    # A terminal's Ctrl-C reaches the whole group; the coordinator ends us in its time.
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    parent = multiprocessing.parent_process()
    if parent is not None:
        loop.add_reader(parent.sentinel, stop)
    beating = asyncio.create_task(_beat(heartbeat))
    # What is there now stays; a scrape's thousands of samples need not make it be looked at.
    gc.collect()
    gc.freeze()
    try:
        await server.serve([listener])
    finally:
        beating.cancel()
        await view.aclose()


def main(config: ServingConfig, heartbeat: Any) -> None:
    """Be the HTTP server's process: entry point of the spawned child."""
    faulthandler.enable()
    setproctitle.setproctitle("collector: http")
    logs.configure("http", level=config.log_level, form=config.log_format)
    # Its start and end are our supervisor's to tell.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    try:
        with (
            listen(config.http) as listener,
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            runner.run(serve(config, heartbeat, listener))
    except ConfigError as error:
        log.error("%s", error)
        raise SystemExit(EXIT_CONFIG) from None
