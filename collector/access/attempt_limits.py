"""
How often strangers may try: a bound for each address, and one for all together. Pure.

A handshake costs the publisher a quarter to two thirds of a millisecond before it can know whose
it is. So each connection takes a token when it is accepted, and gives it back when it shows a
listed key: readers with a key are never held up, however many come at once. Who has no tokens
left is shut out for a while. Connections that are open are not touched.
"""

import ipaddress
from collections import OrderedDict
from typing import Final

from collector.access.rates import Rates

_BURST_OF_ADDRESS: Final = 1_000
"""Handshakes under way at once. All readers of a host come together when a collector restarts."""
_BURST_IN_ALL: Final = 2_000
ADDRESS_SHUT_S: Final = 10.0
ALL_SHUT_S: Final = 1.0
_KNOWN_MOST: Final = 128
"""Addresses remembered from which a listed key came; the one used longest ago is forgotten."""
_SHUT_MOST: Final = 256
"""Addresses shut out at a time: the kernel compares each newcomer with every one of them."""

Network = bytes
"""Where a connection comes from: the 4 bytes of an IPv4 address, or the first 8 of an IPv6 one. A
host can choose the other 8 itself."""


def network_of(address: str) -> Network:
    """Return the network of a numeric address; empty if it is none."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return b""
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is None:
            return found.packed[:8]
        found = found.ipv4_mapped
    return found.packed


class ShutOut:
    """Who is refused at the moment."""

    __slots__ = ("known", "refused", "strangers")

    def __init__(
        self,
        refused: tuple[Network, ...] = (),
        known: tuple[Network, ...] = (),
        *,
        strangers: bool = False,
    ) -> None:
        self.refused = refused
        self.known = known
        """Addresses that may connect even while strangers are refused."""
        self.strangers = strangers

    def key(self) -> tuple[object, ...]:
        """Return what differs when others are shut out."""
        return self.refused, self.known if self.strangers else (), self.strangers


class Attempts:
    """Connections that have not shown a listed key, by address and in all."""

    def __init__(self, per_address_s: float, in_all_s: float) -> None:
        self._by_address = Rates(per_address_s, _BURST_OF_ADDRESS)
        self._in_all = Rates(in_all_s, _BURST_IN_ALL)
        self._shut: OrderedDict[Network, float] = OrderedDict()
        """Addresses shut out, and until when."""
        self._known: OrderedDict[Network, None] = OrderedDict()
        self._strangers_until = 0.0

    def came(self, network: Network, now: float) -> str:
        """Count a connection; return why it may not stay, nothing if it may."""
        if now < self._shut.get(network, 0.0):
            return "address"
        is_known = network in self._known
        if now < self._strangers_until and not is_known:
            return "attempts"
        # One that was reset at once has no address any more.
        if network and not self._by_address.take(network, now):
            self._shut[network] = now + ADDRESS_SHUT_S
            self._shut.move_to_end(network)
            if len(self._shut) > _SHUT_MOST:
                self._shut.popitem(last=False)
            return "address"
        if not is_known and not self._in_all.take(None, now):
            self._strangers_until = now + ALL_SHUT_S
            return "attempts"
        return ""

    def proved(self, network: Network, now: float) -> None:
        """Take back what a connection was counted for: it has shown a listed key."""
        if not network:
            return
        self._by_address.give_back(network, now)
        if network not in self._known:
            self._in_all.give_back(None, now)
        self._known[network] = None
        self._known.move_to_end(network)
        if len(self._known) > _KNOWN_MOST:
            self._known.popitem(last=False)

    def shut_out(self, now: float) -> ShutOut:
        """Return who is refused now."""
        while self._shut and next(iter(self._shut.values())) <= now:
            self._shut.popitem(last=False)
        return ShutOut(tuple(self._shut), tuple(self._known), strangers=now < self._strangers_until)
