"""Assess how active markets are before they are collected, through the adapter that lists them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from collector.markets.activity import Assessment
from shards.adapters import registry
from shards.protocol.errors import SourceError
from shards.protocol.settings import Endpoints, Market

if TYPE_CHECKING:
    from shards.net.access import Access


def assess(endpoints: Endpoints, access: "Access", markets: Sequence[Market]) -> Assessment:
    """
    Return what is known of markets before they are collected; nothing for a young chain.

    Raises:
        SourceError: If no endpoint answers.

    """
    adapter = registry.lister(endpoints)
    error = SourceError(adapter.listing, "no endpoint is configured")
    for endpoint in endpoints.of(adapter.listing):
        try:
            return adapter.assess_activity(endpoint, access, markets)
        except SourceError as failed:
            error = failed
    raise error
