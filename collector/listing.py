"""Watch how the chain lists our markets, in a thread of its own: a query may take its time."""

import logging
import threading
import time
from collections.abc import Sequence
from typing import Final

from collector import discovery
from shards.config import Endpoints, Market
from shards.errors import ConfigError
from shards.sources.channels import Access

log = logging.getLogger(__name__)

_EVERY_S: Final = 20.0


class Listing:
    """The markets' statuses, asked for again every twenty seconds."""

    def __init__(
        self, endpoints: Endpoints, markets: Sequence[Market], access: Access | None = None
    ) -> None:
        self._endpoints = endpoints
        self._access = access or Access(endpoints)
        self._symbols = {market.market_id: market.symbol for market in markets}
        self._statuses = {market.market_id: market.status for market in markets}
        self._asked_at = time.monotonic()
        self._asking: threading.Thread | None = None

    def statuses(self) -> dict[str, str]:
        """Return the statuses as last known; ask for new ones if it is time."""
        now = time.monotonic()
        asking = self._asking is not None and self._asking.is_alive()
        if not asking and now - self._asked_at > _EVERY_S:
            self._asked_at = now
            self._asking = threading.Thread(target=self._ask, daemon=True)
            self._asking.start()
        return self._statuses

    def _ask(self) -> None:
        try:
            found = discovery.discover(self._endpoints, self._access, patience_s=0.0)
        except ConfigError:
            # The node is away; the shards will say more about that.
            return
        listed = {market.market_id: market.status for market in found}
        # Neither active nor paused any more: demolished or expired.
        statuses = {market_id: listed.get(market_id, "Gone") for market_id in self._statuses}
        for market_id, status in statuses.items():
            if status != self._statuses[market_id]:
                log.warning(
                    "%s is %s, it was %s",
                    self._symbols[market_id],
                    status,
                    self._statuses[market_id],
                )
        self._statuses = statuses
