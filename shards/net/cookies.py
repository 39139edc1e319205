"""
Load balancers' cookies: they pin a client to one backend, so that heights never go backwards.

Each host has its own cookie. Until it has set one, it is sent the cookie of another host of the
network, because both may be behind the same balancer. Time is passed as an argument.
"""

from collections.abc import Iterable
from http.cookies import CookieError, Morsel, SimpleCookie
from typing import Final

import msgspec

from shards.net.http_dates import instant

_FAILURES: Final = 3
"""Consecutive failures after which the cookie's backend may be the cause."""


class _Kept(msgspec.Struct, frozen=True):
    """One cookie to send back, and its expiry (Unix seconds, 0: never)."""

    pair: str
    ends: float


class Cookies:
    """The cookies of one network's hosts, as received by one process."""

    def __init__(self) -> None:
        self._kept: dict[str, dict[str, _Kept]] = {}
        self._failures: dict[str, int] = {}
        self._on_its_own: set[str] = set()
        """Hosts that are no longer sent another host's cookie."""

    def header(self, host: str, now: float) -> str:
        """Return the ``cookie`` to send to a host; empty if there is none."""
        kept = self._kept.get(host)
        if kept is None and host not in self._on_its_own:
            kept = next(reversed(self._kept.values()), None)
        return "; ".join(
            cookie.pair for cookie in (kept or {}).values() if not cookie.ends or now < cookie.ends
        )

    def learn(self, host: str, set_cookies: Iterable[str], now: float) -> None:
        """Store the ``set-cookie`` headers of an answer, replacing older cookies."""
        self._failures.pop(host, None)
        for text in set_cookies:
            for name, morsel in _parse(text):
                found = _Kept(f"{name}={morsel.coded_value}", _ends(morsel, now))
                # Moved to the end: hosts without their own cookie are sent the newest.
                self._kept[host] = self._kept.pop(host, {}) | {name: found}
                self._on_its_own.discard(host)

    def failed(self, host: str) -> None:
        """A call failed; after a few in a row drop the cookie, to reach another backend."""
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
    except ValueError:
        return 0.0
    return instant(morsel["expires"]) or 0.0
