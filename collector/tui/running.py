"""Run the application on the terminal; leave the terminal as it was, also on SIGTERM."""

import asyncio
import signal
from collections.abc import Sequence

from collector.tui.app import Top


def run(connect: str, patterns: Sequence[str]) -> None:
    """
    Show the cells that publish at `connect` until someone quits.

    Raises:
        ValueError: If one of them is neither a tcp nor an ipc endpoint.

    """
    app = Top(connect, patterns)
    asyncio.run(_run(app))
    if app.return_code:
        raise SystemExit(app.return_code)


async def _run(app: Top) -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, app.exit)
    await app.run_async()
