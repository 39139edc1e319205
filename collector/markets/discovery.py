"""List a network's markets, through the first adapter that has endpoints there."""

import time
from typing import TYPE_CHECKING, Final

from collector.markets.identity import NetworkIdentity
from collector.markets.selection import with_symbols
from shards.adapters import registry
from shards.adapters.interface import MarketList
from shards.protocol.errors import ConfigError, SourceError
from shards.protocol.settings import Endpoints, Market

if TYPE_CHECKING:
    # It imports grpc: a tenth of a second that commands on a running collector can save.
    from shards.net.access import Access

PATIENCE_S: Final = 15.0
_BEHIND: Final = 20
"""A list of markets from this many blocks before the head, or more, is not taken. It lacks the newest
markets, which would be given up after the second such list. Shorter than the time between two."""


class Symbols:
    """Gives the listed markets their symbols; the same list again while nothing has changed."""

    def __init__(self) -> None:
        self._listed: list[Market] = []
        self._found: list[Market] = []

    def of(self, listed: list[Market]) -> list[Market]:
        """Return the markets with their symbols."""
        # Equal markets are mostly the same objects, which takes no time to find out.
        if listed != self._listed:
            self._listed, self._found = listed, with_symbols(listed)
        return self._found


def discover(
    endpoints: Endpoints, access: "Access | None" = None, *, patience_s: float = PATIENCE_S
) -> list[Market]:
    """Return the markets that `list_network` finds."""
    return list_network(endpoints, access, patience_s=patience_s).markets


def list_network(
    endpoints: Endpoints,
    access: "Access | None" = None,
    *,
    patience_s: float = PATIENCE_S,
    symbols: Symbols | None = None,
    head: int = 0,
) -> MarketList:
    """
    Return all markets of a network, with their symbols; an endpoint of another network is refused.

    Args:
        symbols: Of the listings before, if they are repeated.
        head: The newest block known, 0 if none is: an endpoint that is far behind it is refused.

    Raises:
        ConfigError: If none of the endpoints answered within `patience_s`.

    """
    if access is None:
        access = registry.open_access(endpoints)
    symbols = symbols or Symbols()
    adapter = registry.lister(endpoints)
    identity = NetworkIdentity(endpoints)
    asked = endpoints.of(adapter.listing)
    deadline = time.monotonic() + patience_s
    began = time.monotonic()
    tried = 0
    reason = "no endpoint that lists markets is configured"
    while asked:
        for endpoint in asked:
            tried += 1
            try:
                identity.check(adapter, endpoint, access)
                found = _not_behind(endpoint, adapter.list_markets(endpoint, access), head)
                return found._replace(markets=symbols.of(found.markets))
            except SourceError as error:
                reason = error.reason
            # Each is asked once, however little patience there is.
            if time.monotonic() > deadline and tried >= len(asked):
                break
        if time.monotonic() > deadline:
            break
        time.sleep(0.5)
    waited_s = time.monotonic() - began
    where = ", ".join(asked) or "nowhere"
    raise ConfigError(
        f"the network cannot be reached: asked {where} for its markets {tried} times "
        f"in {waited_s:.0f} s, last answer {reason}. Is a node there? --network devnet starts one "
        "for you, --network mainnet takes the public endpoints"
    )


def _not_behind(endpoint: str, found: MarketList, head: int) -> MarketList:
    """Return a list of markets; raise SourceError if it is too old."""
    behind = head - found.height
    if found.height and behind >= _BEHIND:
        raise SourceError(endpoint, f"its markets are those of block {found.height}, {behind} ago")
    return found
