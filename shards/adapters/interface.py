"""
What an adapter is: everything that differs between upstreams, behind one object.

`Adapter` is what the rest of the program knows of an upstream; `Source` and `Sink` are the two
sides of its connection. An adapter's module is light: it declares, and loads its libraries
only when something is opened (registry.py).
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

from shards.protocol import channels
from shards.protocol.errors import ConfigError
from shards.protocol.events import Block, Cause, Confirmed, Rejected
from shards.protocol.settings import Market

if TYPE_CHECKING:
    # It loads asyncio, which those who only read what is declared have no use for.
    from shards.net.endpoints import EndpointPool


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

    endpoints: "EndpointPool"

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


class Adapter:
    """One upstream API; there is one object of it, which keeps nothing."""

    name: ClassVar[str]
    """As ``--source`` spells it."""
    promises: ClassVar[Mapping[str, str]]
    """By channel, in a sentence for its users, what is guaranteed; only of those it gives."""

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels that it gives, in the order in which they are shown."""
        return tuple(name for name in channels.NAMES if name in self.promises)

    def check(self, wanted: Iterable[str]) -> None:
        """
        Make sure that these channels can be had here.

        Raises:
            ConfigError: If one of them cannot, or if there is no such channel.

        """
        for channel in wanted:
            if channel not in channels.NAMES:
                known = ", ".join(channels.NAMES)
                raise ConfigError(f"channel {channel!r}: there is none, only {known}")
            if channel not in self.promises:
                raise ConfigError(
                    f"--channel {channel}: the source {self.name} does not give it, only "
                    f"{', '.join(self.channels)} "
                    "('collector capabilities' says what each source guarantees)"
                )
