"""List the chain's markets periodically, in a thread, because a query may be slow."""

import threading
from collections.abc import Callable
from typing import Final, NamedTuple

from collector.markets import discovery
from shards.adapters import registry
from shards.net.access import Access
from shards.protocol.errors import ConfigError
from shards.protocol.settings import Endpoints, Market

_FIRST_S: Final = 2.0


class Listed(NamedTuple):
    """All markets of the network, whatever their status."""

    markets: list[Market]
    through: int
    """Every market listed up to this block is included."""


class Listing:
    """Queries periodically, or on request."""

    def __init__(
        self, endpoints: Endpoints, access: Access | None = None, *, every_s: float
    ) -> None:
        self._endpoints = endpoints
        self._every_s = every_s
        self._access = access or registry.open_access(endpoints)
        self._symbols = discovery.Symbols()
        self._due_at = 0.0
        self._asking: threading.Thread | None = None
        self._listed: Listed | None = None

    @property
    def is_asking(self) -> bool:
        """Whether a query is running."""
        return self._asking is not None

    def look(
        self, head: int, *, now: float, has_begun: bool = False, at_once: bool = False
    ) -> Listed | None:
        """
        Return a new listing once, if there is one; start the next query when it is due.

        The first one is due soon after blocks are received, or after ``has_begun``.
        """
        if self._asking is not None and self._asking.is_alive():
            return None
        if self._asking is not None:
            self._asking.join()
            self._asking = None
            listed, self._listed = self._listed, None
            return listed
        if (head or has_begun) and not self._due_at:
            self._due_at = now + min(_FIRST_S, self._every_s)
        if at_once or (self._due_at and now >= self._due_at):
            self._due_at = now + self._every_s
            self._asking = threading.Thread(target=self._ask(head), daemon=True)
            self._asking.start()
        return None

    def _ask(self, head: int) -> Callable[[], None]:
        def ask() -> None:
            try:
                found, height = discovery.list_network(
                    self._endpoints, self._access, patience_s=0.0, symbols=self._symbols, head=head
                )
            except ConfigError:
                # The node is away or behind; the shards report that in more detail.
                return
            self._listed = Listed(found, min(head, height or head))

        return ask
