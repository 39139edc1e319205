"""The loop that every source runs: an endpoint's turn, a session, and after its end the next."""

import abc
import logging
from collections.abc import Sequence
from typing import Protocol

from shards.adapters.interface import Sink
from shards.net.endpoints import EndpointPool
from shards.protocol.errors import SourceError
from shards.protocol.events import Cause

log = logging.getLogger(__name__)


class Guard(Protocol):
    """Who knows which chain is collected, and where its head is."""

    async def admit(self, endpoint: str) -> None:
        """Wait until a session may begin; raise SourceError where it may not."""

    async def check_block(self, endpoint: str, height: int, ts_event: int) -> None:
        """Hold a block of an endpoint against the chain; raise SourceError if it is not of it."""

    def head(self) -> int:
        """Return the highest block that was heard."""


class Reconnecting(abc.ABC):
    """A source as a sequence of sessions."""

    def __init__(self, name: str, endpoints: Sequence[str], sink: Sink) -> None:
        self.endpoints = EndpointPool(endpoints)
        self._name = name
        self._sink = sink
        self._cause: Cause = "disconnect"
        self.guard: Guard | None = None
        """Set by who watches the chain."""
        self._proven: set[str] = set()
        """Endpoints whose blocks were held against the chain."""

    @abc.abstractmethod
    async def _session(self, endpoint: str) -> None:
        """Connect, subscribe and serve; raise SourceError when that ends."""

    async def run(self) -> None:
        """Hold one session after another; never return."""
        while True:
            endpoint = await self.endpoints.next()
            try:
                if self.guard is not None:
                    await self._admit(endpoint, self.guard)
                await self._session(endpoint)
            except SourceError as error:
                self.endpoints.failed(error.reason, unreachable=error.unreachable)
                cause, self._cause = self._cause, "disconnect"
                if cause == "chain_changed":
                    self._proven.clear()
                self._sink.disconnected(cause, error.reason)
                log.warning("%s %s: %s; reconnecting", self._name, error.endpoint, error.reason)

    async def _admit(self, endpoint: str, guard: Guard) -> None:
        """
        Make sure that an endpoint has the chain that is collected.

        A stream does not name its chain. Before its blocks can follow others, of another endpoint or
        of a former process, one of them is held against the chain's record.

        Raises:
            SourceError: If it has another chain.

        """
        await guard.admit(endpoint)
        may_differ = guard.head() > 0 or len(self.endpoints.states()) > 1
        if may_differ and endpoint not in self._proven:
            await self._prove(endpoint, guard)
        # Where nothing was heard before, and nobody else can be, it is what others must equal.
        self._proven.add(endpoint)

    async def _prove(self, endpoint: str, guard: Guard) -> None:
        """Hear one block of an endpoint on trial, and hold it against the chain, where that is done."""
        del endpoint, guard
