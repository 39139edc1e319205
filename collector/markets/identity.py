"""
Which network an endpoint that lists markets is of: its markets may only be taken if it is ours.

The first RPC endpoint that answers, in order of preference, names the network, as for the shards
(shards/net/nodes.py). An endpoint that cannot be asked is trusted: nothing contradicts it.
"""

import asyncio
import threading
from typing import TYPE_CHECKING, Final

from shards.adapters import registry
from shards.adapters.interface import Adapter
from shards.protocol.errors import SourceError
from shards.protocol.settings import Endpoints
from shards.protocol.text import printable, without_secrets

if TYPE_CHECKING:
    from shards.net.access import Access

_WITHIN_S: Final = 2.0
_LONGEST: Final = 60
"""Characters of a network's id that are shown."""


class NetworkIdentity:
    """The network's id, asked once."""

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        self._known: tuple[str, str] | None = None
        """The id, and the endpoint that named it; None while none has."""

    def check(self, adapter: Adapter, endpoint: str, access: "Access") -> None:
        """
        Make sure that an endpoint is of our network before its markets are taken.

        Raises:
            SourceError: If it names another one.

        """
        known = self._known = self._known or _named_by_rpc(self._endpoints)
        theirs = adapter.network(endpoint, access) if known is not None else ""
        if known is None or not theirs or theirs == known[0]:
            return
        named, rpc = (printable(name, _LONGEST) for name in (theirs, known[0]))
        source = without_secrets(known[1])
        raise SourceError(endpoint, f"it is of network {named}, not {rpc} as {source} is")


def _named_by_rpc(endpoints: Endpoints) -> tuple[str, str] | None:
    """Ask all RPC endpoints; return the first answer in their order, None without one."""
    if not registry.of_role(endpoints, "rpc"):
        return None
    found: list[tuple[str, str]] = []

    def ask() -> None:
        found.extend(asyncio.run(_ask(endpoints)))

    # The caller may be inside an event loop, or in none.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_WITHIN_S + 1.0)
    return found[0] if found else None


async def _ask(endpoints: Endpoints) -> list[tuple[str, str]]:
    """Return the networks that RPC endpoints name, with their endpoints, in order."""
    from shards.net.rpc import Rpc, view_of

    access = registry.open_access(endpoints)
    urls = registry.of_role(endpoints, "rpc")
    clients = [Rpc(url, access, timeout_s=_WITHIN_S) for url in urls]
    try:
        views = await asyncio.gather(*map(view_of, clients), return_exceptions=True)
    finally:
        for client in clients:
            client.close()
        access.close()
    for view in views:
        if isinstance(view, BaseException) and not isinstance(view, SourceError):
            raise view
    return [
        (view.network, url)
        for url, view in zip(urls, views, strict=True)
        if not isinstance(view, BaseException)
    ]
