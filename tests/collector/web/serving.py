"""Start `collector dashboard` as a user does, and look at it as a browser does, without one."""

import contextlib
import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from websockets.sync.client import ClientConnection, connect

from tests.system.running import COLLECTOR, eventually


class Dashboard:
    """A running `collector dashboard`."""

    def __init__(self, process: "subprocess.Popen[bytes]", url: str) -> None:
        self.process = process
        self.url = url
        self.host = urlsplit(url).netloc

    def look(self, **headers: str) -> "Looker":
        """Open a live connection."""
        return Looker(
            connect(f"ws://{self.host}/live", additional_headers=headers, open_timeout=60)
        )


class Looker:
    """One live connection, which acknowledges only when asked to."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.last = 0

    def hear(self, within_s: float = 20.0) -> dict[str, Any]:
        """Wait for the next message."""
        message: dict[str, Any] = json.loads(self.connection.recv(within_s))
        self.last = message["n"]
        return message

    def say(self, **what: Any) -> None:
        """Say something to the server."""
        self.connection.send(json.dumps(what))

    def until(
        self, condition: Callable[[dict[str, Any]], Any], within_s: float = 30.0
    ) -> dict[str, Any]:
        """Acknowledge and hear until a message fulfils a condition; return that message."""
        deadline = time.monotonic() + within_s
        while True:
            message = self.hear(max(0.1, deadline - time.monotonic()))
            self.say(seen=self.last)
            if condition(message):
                return message

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()


@contextlib.contextmanager
def dashboard(folder: Path, publish: str, *options: str) -> Iterator[Dashboard]:
    """Run the page for the length of the block, on a free port of loopback."""
    log = folder / "dashboard.log"
    with (
        log.open("wb") as stderr,
        subprocess.Popen(
            [*COLLECTOR, "dashboard", "--connect", publish, "--listen", "127.0.0.1:0", *options],
            stderr=stderr,
            stdin=subprocess.DEVNULL,
        ) as process,
    ):
        try:
            found = eventually(
                lambda: re.findall(r"page of .* is at (\S+)", log.read_text()),
                within_s=30,
                what=log.read_text,
            )
            yield Dashboard(process, found[0])
        finally:
            process.terminate()
            process.wait(90)
