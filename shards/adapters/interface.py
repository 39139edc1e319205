"""Who receives what a source hears, and what a source offers: the two sides of the shell."""

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from shards.net.endpoints import EndpointPool
from shards.protocol.events import Block, Cause, Confirmed, Rejected
from shards.protocol.settings import Market


class Sink(Protocol):
    """The shard, as its source sees it. All calls are synchronous and short."""

    def subscribed(self, subscription: int, market_ids: Iterable[str]) -> None:
        """A subscription is about to be asked for."""

    def confirmed(self, subscription: int) -> None:
        """It was accepted; for sources whose payloads do not say so themselves."""

    def receive(
        self, payload: bytes | memoryview, ts_recv: int, last: bool, subscription: int = 0
    ) -> None:
        """
        A payload came; its memory is only valid during the call.

        ``last`` says that it ends what one read of the socket brought; the subscription is 0
        where the payload names its own.
        """

    def lost(self, subscription: int, cause: Cause, reason: str) -> None:
        """One subscription has ended; the others go on."""

    def disconnected(self, cause: Cause, reason: str) -> None:
        """Every subscription is gone."""


class Source(Protocol):
    """One upstream API."""

    endpoints: EndpointPool

    async def run(self) -> None:
        """Connect, subscribe, and start over whenever that ends; never return."""

    def add(self, markets: Iterable[Market]) -> None:
        """Collect these markets too, without disturbing the others; also before `run`."""

    def remove(self, market_ids: Iterable[str]) -> None:
        """Collect these markets no more, without disturbing the others; also before `run`."""

    def resubscribe(self, market_id: str) -> None:
        """Replace one market's subscription; one that is not ours any more is no error."""

    def reconnect(self, cause: Cause, reason: str) -> None:
        """Give the connection up and make another."""


@runtime_checkable
class BlockSource(Protocol):
    """A source whose payloads are blocks (the indexer's are not)."""

    def decode(self, payload: bytes | memoryview) -> tuple[int, Block | Confirmed | Rejected]:
        """Decode one of this source's payloads."""
