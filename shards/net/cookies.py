"""
The balancer's cookie: it pins a client to one backend, so that heights never go backwards.

Each host has its own; until it has given one, it is sent what another host of the network
gave, because the balancer before both may be the same. Time comes in as an argument.
"""

import email.utils
from collections.abc import Iterable
from http.cookies import CookieError, Morsel, SimpleCookie
from typing import Final

import msgspec

_FAILURES: Final = 3
"""In a row; then the backend that the cookie names may be the reason."""


class _Kept(msgspec.Struct, frozen=True):
    """One cookie as it is sent back, and when it ends (unix seconds, 0: never)."""

    pair: str
    ends: float


class Cookies:
    """The cookies of one network's hosts, as one process has heard them."""

    def __init__(self) -> None:
        self._kept: dict[str, dict[str, _Kept]] = {}
        self._failures: dict[str, int] = {}
        self._on_its_own: set[str] = set()
        """Hosts that get no other's cookie any more."""

    def header(self, host: str, now: float) -> str:
        """Return the ``cookie`` to send to a host; empty if there is none."""
        kept = self._kept.get(host)
        if kept is None and host not in self._on_its_own:
            kept = next(reversed(self._kept.values()), None)
        return "; ".join(
            cookie.pair for cookie in (kept or {}).values() if not cookie.ends or now < cookie.ends
        )

    def learn(self, host: str, set_cookies: Iterable[str], now: float) -> None:
        """An answer came, with these ``set-cookie``: keep them in the place of older ones."""
        self._failures.pop(host, None)
        for text in set_cookies:
            for name, morsel in _parse(text):
                found = _Kept(f"{name}={morsel.coded_value}", _ends(morsel, now))
                # Put last: who has none of its own gets the newest.
                self._kept[host] = self._kept.pop(host, {}) | {name: found}
                self._on_its_own.discard(host)

    def failed(self, host: str) -> None:
        """A call failed; after a few in a row the cookie is dropped, for another backend."""
        failures = self._failures[host] = self._failures.get(host, 0) + 1
        if failures >= _FAILURES:
            self._failures[host] = 0
            self._kept.pop(host, None)
            self._on_its_own.add(host)


def _parse(text: str) -> Iterable[tuple[str, "Morsel[str]"]]:
    try:
        return SimpleCookie(text).items()
    except CookieError:
        return ()


def _ends(morsel: "Morsel[str]", now: float) -> float:
    try:
        if morsel["max-age"]:
            return now + float(morsel["max-age"])
        if morsel["expires"]:
            return email.utils.parsedate_to_datetime(morsel["expires"]).timestamp()
    except ValueError:
        pass
    return 0.0
