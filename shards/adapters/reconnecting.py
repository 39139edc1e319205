"""The loop that every source runs: choose an endpoint, hold a session, repeat when it ends."""

import abc
import logging
from collections.abc import Sequence
from typing import Protocol

from shards.adapters.interface import Sink
from shards.net.endpoint_pool import EndpointPool
from shards.protocol.control import PathReport
from shards.protocol.errors import SourceError
from shards.protocol.events import Cause

log = logging.getLogger(__name__)


class EndpointGuard(Protocol):
    """Knows which chain is collected, and its head."""

    async def admit(self, endpoint: str) -> None:
        """Wait until a session may begin; raise SourceError if it must not."""

    async def check_block(self, endpoint: str, height: int, ts_event: int) -> None:
        """Compare an endpoint's block with the chain; raise SourceError if it is not part of it."""

    async def check_head(self, endpoint: str, height: int) -> None:
        """Compare an endpoint's newest block with the head of all nodes; raise if it is behind."""

    def head(self) -> int:
        """Return the highest block received."""


class Reconnecting(abc.ABC):
    """A source as a sequence of sessions."""

    def __init__(self, name: str, endpoints: Sequence[str], sink: Sink) -> None:
        self.endpoints = EndpointPool(endpoints)
        self._name = name
        self._sink = sink
        self._cause: Cause = "disconnect"
        self.guard: EndpointGuard | None = None
        """Set by the chain's watch."""
        self._proven: set[str] = set()
        """Endpoints whose blocks were compared with the chain."""

    def paths(self) -> list[PathReport]:
        """Return nothing: one node is read at a time."""
        return []

    @abc.abstractmethod
    async def _session(self, endpoint: str) -> None:
        """Connect, subscribe and receive; raise SourceError when that ends."""

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

    async def _admit(self, endpoint: str, guard: EndpointGuard) -> None:
        """
        Make sure that an endpoint serves the chain being collected.

        A stream does not name its chain. Before its blocks may follow those of another endpoint or of
        an earlier process, one of them is compared with the chain's record.

        Raises:
            SourceError: If it serves another chain.

        """
        await guard.admit(endpoint)
        may_differ = guard.head() > 0 or len(self.endpoints.states()) > 1
        if may_differ and endpoint not in self._proven:
            await self._prove(endpoint, guard)
        # Nothing was received before and no node can be asked: this endpoint defines the chain.
        self._proven.add(endpoint)

    async def _prove(self, endpoint: str, guard: EndpointGuard) -> None:
        """Receive one block of an endpoint on trial and compare it, for sources that do so."""
        del endpoint, guard
