"""What `collector add`, `remove`, `scale`, `rebalance` and `drain` do: give an order, wait for it."""

import time
import uuid
from typing import Any, Final

from collector.client.requests import Asker
from collector.settings.parts import requests_endpoint
from shards.protocol.errors import ConfigError

_EVERY_S: Final = 0.2
_ANSWER_S: Final = 5.0


def order(connect: str, kind: str, *, within_s: float, **fields: Any) -> str:
    """
    Have a running collector carry out an order; return what was done.

    Raises:
        ConfigError: If nobody answers, the order is refused, or it is not done in time.

    """
    try:
        endpoint = requests_endpoint(connect)
    except ValueError as error:
        raise ConfigError(f"--connect {error}") from None
    asked = {"token": uuid.uuid4().hex, "order": {"kind": kind, **fields}}
    deadline = time.monotonic() + within_s
    silent_since = time.monotonic()
    with Asker(endpoint) as asker:
        while time.monotonic() < deadline:
            try:
                # The whole order each time: the aggregator may have restarted in between.
                said = asker.ask("order", within_s=1.0, **asked)
            except TimeoutError as error:
                if time.monotonic() - silent_since > _ANSWER_S:
                    raise ConfigError(str(error)) from None
                continue
            silent_since = time.monotonic()
            if "error" in said:
                raise ConfigError(said["error"])
            if said["state"] == "done":
                return str(said["text"])
            if said["state"] == "refused":
                raise ConfigError(said["text"])
            time.sleep(_EVERY_S)
    raise ConfigError(
        f"not done within {within_s:.0f} s, and still going on: 'collector status --json' shows "
        "markets.moving"
    )
