"""Listening addresses: their form, and whether two of them collide. Pure."""

import re
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from collector.settings.parts import connectable, reachable, requests_endpoint

_ANYWHERE: Final = frozenset({"*", "0.0.0.0", "::"})
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def host_port(text: str, *, least: int = 1) -> tuple[str, int]:
    """
    Split ``HOST:PORT``, ``[IPv6]:PORT``, ``:PORT`` or ``PORT``; the default host is loopback.

    Raises:
        ValueError: If it has another form, or the port is below `least` or above 65535.

    """
    host, _, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        port = ""
    if not (port.isascii() and port.isdigit()) or not least <= int(port) <= 65_535:
        raise ValueError(f"must be HOST:PORT with a port from {least} to 65535, not {text!r}")
    return host or "127.0.0.1", int(port)


_between: Final = re.compile(r"\s*,\s*(?=\w+://)").split


def endpoints_of(connect: str | Iterable[str]) -> tuple[str, ...]:
    """
    Return the publish endpoints to connect to: a list, or one text with commas between them.

    Raises:
        ValueError: If there is none, or one is named twice.

    """
    texts = (connect,) if isinstance(connect, str) else tuple(connect)
    endpoints = tuple(one.strip() for text in texts for one in _between(text))
    if not endpoints:
        raise ValueError("no endpoint to connect to")
    for endpoint in endpoints:
        if endpoints.count(endpoint) > 1:
            raise ValueError(f"{endpoint} is named twice: a cell is read once")
    return endpoints


def reads_itself(connect: str, publish: Iterable[str]) -> str:
    """Return the endpoint of `connect` at which the same process publishes; empty if none is."""
    own = {_plain(at) for one in publish for at in (connectable(one), reachable(one))}
    return next((one for one in endpoints_of(connect) if _plain(connectable(one)) in own), "")


def _plain(endpoint: str) -> str:
    """Spell the names of loopback alike."""
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    is_near = endpoint.startswith("tcp://") and host.strip("[]") in _LOOPBACK
    return f"tcp://127.0.0.1:{port}" if is_near else endpoint


class Claim(msgspec.Struct, frozen=True):
    """One listening address and its purpose."""

    place: str
    """A host, or the path of an ipc endpoint."""
    port: int
    """0 for a path."""
    told: str
    """The option as given."""
    purpose: str


def of_publish(endpoint: str, option: str) -> Iterator[Claim]:
    """Return what a publish endpoint claims: its own address and that of requests."""
    for name, purpose in (
        (endpoint, "frames are published there"),
        (requests_endpoint(endpoint), "requests are answered there, next to where it publishes"),
    ):
        scheme, _, address = name.partition("://")
        host, _, port = address.rpartition(":")
        told = f"{option} {endpoint}"
        if scheme == "ipc":
            yield Claim(address, 0, told, purpose)
        else:
            yield Claim(host.strip("[]"), int(port), told, purpose)


def of_listener(address: str, option: str, *, least: int) -> Claim:
    """Return what an HTTP server claims."""
    host, port = host_port(address, least=least)
    return Claim(host, port, f"{option} {address}", "it listens there, too")


def of_admin(endpoint: str, option: str) -> Claim:
    """Say what an admin endpoint claims."""
    host, port = host_port(endpoint.partition("://")[2])
    return Claim(host, port, f"{option} {endpoint}", "admin commands are taken there")


def collision(claims: Iterable[Claim]) -> str:
    """Return a sentence about two claims that collide; empty if none do."""
    before: list[Claim] = []
    for claim in claims:
        for other in before:
            if _overlap(claim, other):
                if claim.told == other.told:
                    return f"{claim.told} is given twice"
                return f"{claim.told} collides with {other.told}: {other.purpose}"
        before.append(claim)
    return ""


def _overlap(one: Claim, other: Claim) -> bool:
    if one.port != other.port:
        return False
    places = {one.place, other.place}
    if not one.port:
        # Port 0 means any free port.
        return len(places) == 1 and one.place.startswith(("/", "@", "."))
    return len(places) == 1 or bool(places & _ANYWHERE) or places <= _LOOPBACK
