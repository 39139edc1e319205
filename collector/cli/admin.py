"""What `collector add`, `remove`, `scale`, `rebalance` and `drain` do: give an order, wait for it."""

import os
import time
import uuid
from typing import Any, Final

from collector.client.requests import Refused, RequestClient
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
    endpoint = _admin_endpoint(connect)
    asked = {"token": uuid.uuid4().hex, "order": {"kind": kind, **fields}}
    deadline = time.monotonic() + within_s
    silent_since = time.monotonic()
    with RequestClient(endpoint) as client:
        while time.monotonic() < deadline:
            try:
                # The whole order each time: the aggregator may have restarted in between.
                said = client.ask("order", within_s=1.0, **asked)
            except TimeoutError as error:
                if time.monotonic() - silent_since > _ANSWER_S:
                    raise ConfigError(str(error)) from None
                continue
            except Refused as refused:
                raise ConfigError(str(refused)) from None
            silent_since = time.monotonic()
            if said["state"] == "done":
                return str(said["text"])
            if said["state"] == "refused":
                raise ConfigError(said["text"])
            time.sleep(_EVERY_S)
    raise ConfigError(
        f"not done within {within_s:.0f} s, and still going on: 'collector status --json' shows "
        "markets.moving"
    )


def _admin_endpoint(connect: str) -> str:
    """
    Ask a collector where it takes admin commands, and make sure that it takes ours.

    Raises:
        ConfigError: If nobody answers there, or it is another host's or another user's.

    """
    try:
        with RequestClient(requests_endpoint(connect)) as client:
            endpoint = client.ask("status", within_s=_ANSWER_S)["status"].get("admin")
    except TimeoutError as error:
        raise ConfigError(str(error)) from None
    except ValueError as error:
        raise ConfigError(f"--connect {error}") from None
    if not isinstance(endpoint, str):
        raise ConfigError(f"the collector at {connect} takes no admin commands")
    path = endpoint.removeprefix("ipc://")
    try:
        os.stat(path)
    except PermissionError:
        raise ConfigError(
            f"the collector at {connect} belongs to another user, and takes admin commands only "
            f"from that one: run this as the owner of {os.path.dirname(path)}"
        ) from None
    except (OSError, ValueError):
        raise ConfigError(
            f"the collector at {connect} takes admin commands on its own host only, "
            f"and its {path} is not on this one: run this there"
        ) from None
    return endpoint
