"""Processes for the supervisor's tests: each beats from its loop, and then does something bad."""

import faulthandler
import os
import time
from pathlib import Path
from typing import Any

from shards.runtime.exit_codes import EXIT_CONFIG


def _beat(heartbeat: Any) -> None:
    heartbeat.value = time.monotonic()


def well(_: object, heartbeat: Any) -> None:
    """Beat until killed."""
    while True:
        _beat(heartbeat)
        time.sleep(0.05)


def stuck(_: object, heartbeat: Any) -> None:
    """Beat once, then hang where its stack will show it."""
    faulthandler.enable()
    _beat(heartbeat)
    hang_here()


def hang_here() -> None:
    """Do not come back."""
    while True:
        time.sleep(60)


def never_ready(_: object, heartbeat: Any) -> None:
    """Never beat."""
    hang_here()


def misconfigured(_: object, heartbeat: Any) -> None:
    """Say that a restart would not help."""
    os._exit(EXIT_CONFIG)


def crashing(_: object, heartbeat: Any) -> None:
    """Beat and fail."""
    _beat(heartbeat)
    raise ValueError("a bug")


def misconfigured_while(path: Path, heartbeat: Any) -> None:
    """Beat until killed, unless this file is there: then say that a restart would not help."""
    if path.exists():
        os._exit(EXIT_CONFIG)
    well(None, heartbeat)
