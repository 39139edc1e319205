"""
Tokens over HTTP: a bearer token, or a browser's session that began with one.

The check is ASGI middleware, so no route can omit it. Each authorized key has a token (`keys new`
makes both), with the same name, role and rights as over ZeroMQ. Revoking the key ends both within a
second.
"""

import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Container, MutableMapping
from pathlib import Path
from typing import Any, Final, TypeAlias

from collector.access.authorized_file import AuthorizedKey
from collector.access.authorized_watch import AuthorizedFile

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

SESSION_S: Final = 12 * 3_600.0
SESSIONS: Final = 1_000
COOKIE: Final = "collector_session"
_LOOK_S: Final = 0.25
_TOKEN_MOST: Final = 512


class Tokens:
    """The tokens in force, and the browser sessions that began with them."""

    def __init__(self, path: Path) -> None:
        """
        Read the authorized keys.

        Raises:
            ConfigError: If the file cannot be read or is invalid.

        """
        self._file = AuthorizedFile(path)
        self._looked_at = time.monotonic()
        self._sessions: OrderedDict[str, tuple[str, float]] = OrderedDict()
        """By session id: the token's hash, and the end of the session."""

    def of_token(self, token: str) -> AuthorizedKey | None:
        """Return the key of a token, or None."""
        self._look()
        return self._file.current.of_token(token) if 0 < len(token) <= _TOKEN_MOST else None

    def of_scope(self, scope: Scope) -> AuthorizedKey | None:
        """Return the key of a request's sender; None without a valid token or session."""
        header = _header(scope, b"authorization")
        kind, _, token = header.partition(" ")
        if kind.lower() == "bearer":
            return self.of_token(token.strip())
        return self.of_session(session_of(scope))

    def begin(self, key: AuthorizedKey) -> str:
        """Begin a session and return its id."""
        identifier = secrets.token_urlsafe(32)
        self._sessions[identifier] = (key.token, time.monotonic() + SESSION_S)
        while len(self._sessions) > SESSIONS:
            self._sessions.popitem(last=False)
        return identifier

    def end(self, identifier: str) -> None:
        """End a session."""
        self._sessions.pop(identifier, None)

    def of_session(self, identifier: str) -> AuthorizedKey | None:
        """Return the key of a session; None if the session has ended or the key was revoked."""
        self._look()
        token, ends = self._sessions.get(identifier, ("", 0.0))
        if time.monotonic() >= ends:
            self._sessions.pop(identifier, None)
            return None
        return next((key for key in self._file.current.keys if key.token == token), None)

    def may_see_everything(self, key: AuthorizedKey) -> bool:
        """Return whether a key may read every topic."""
        rights = self._file.current.rights.get(key.name)
        return rights is not None and rights.everything

    def _look(self) -> None:
        now = time.monotonic()
        since_s = now - self._looked_at
        if since_s >= _LOOK_S:
            self._looked_at = now
            self._file.look(since_s)


class Bearer:
    """Passes on requests with a valid token, and requests for paths that need none."""

    def __init__(self, app: App, *, tokens: Tokens, free: Container[str]) -> None:
        """
        Args:
            free: Paths that need no token.

        """
        self._app = app
        self._tokens = tokens
        self._free = free

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it with a reason."""
        if scope["type"] != "http" or scope["path"] in self._free:
            await self._app(scope, receive, send)
            return
        key = self._tokens.of_scope(scope)
        if key is None:
            text = "a token is needed: send the header Authorization: Bearer TOKEN\n"
            await refuse(send, 401, text, ((b"www-authenticate", b"Bearer"),))
        elif scope["path"] != "/status" and not self._tokens.may_see_everything(key):
            text = f"the key of {key.name} may read some topics only, and this shows all markets\n"
            await refuse(send, 403, text)
        else:
            await self._app(scope, receive, send)


async def refuse(
    send: Send, status: int, text: str, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> None:
    """Answer with a sentence."""
    plain = ((b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store"))
    await send({"type": "http.response.start", "status": status, "headers": [*plain, *headers]})
    await send({"type": "http.response.body", "body": text.encode()})


def _header(scope: Scope, name: bytes) -> str:
    for found, value in scope["headers"]:
        if found == name:
            return bytes(value).decode("latin-1")
    return ""


def session_of(scope: Scope) -> str:
    """Return the session id in a request's cookie; empty without one."""
    for part in _header(scope, b"cookie").split(";"):
        name, _, value = part.strip().partition("=")
        if name == COOKIE:
            return value
    return ""
