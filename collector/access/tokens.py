"""
Who asks over HTTP: a bearer token, or the session that a browser was given for one.

ASGI middleware, so that no route can forget it. Tokens are the authorized keys' (`keys new`
makes one with each key): the same names, roles and rights as over ZeroMQ, and the same end
within a second of being revoked.
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
    """The tokens that are let in now, and the sessions that browsers were given for them."""

    def __init__(self, path: Path) -> None:
        """
        Read the authorized keys.

        Raises:
            ConfigError: If the file cannot be read, or something in it is wrong.

        """
        self._file = AuthorizedFile(path)
        self._looked_at = time.monotonic()
        self._sessions: OrderedDict[str, tuple[str, float]] = OrderedDict()
        """By identifier: the hash of the token, and when it ends."""

    def of_token(self, token: str) -> AuthorizedKey | None:
        """Return whose token it is; None if nobody's."""
        self._look()
        return self._file.current.of_token(token) if 0 < len(token) <= _TOKEN_MOST else None

    def of_scope(self, scope: Scope) -> AuthorizedKey | None:
        """Return who sends a request; None if nobody that is let in."""
        header = _header(scope, b"authorization")
        kind, _, token = header.partition(" ")
        if kind.lower() == "bearer":
            return self.of_token(token.strip())
        return self.of_session(session_of(scope))

    def begin(self, key: AuthorizedKey) -> str:
        """Begin a session; return its identifier."""
        identifier = secrets.token_urlsafe(32)
        self._sessions[identifier] = (key.token, time.monotonic() + SESSION_S)
        while len(self._sessions) > SESSIONS:
            self._sessions.popitem(last=False)
        return identifier

    def end(self, identifier: str) -> None:
        """End a session."""
        self._sessions.pop(identifier, None)

    def of_session(self, identifier: str) -> AuthorizedKey | None:
        """Return whose session it is; None if it has ended, or its key is let in no more."""
        self._look()
        token, ends = self._sessions.get(identifier, ("", 0.0))
        if time.monotonic() >= ends:
            self._sessions.pop(identifier, None)
            return None
        return next((key for key in self._file.current.keys if key.token == token), None)

    def may_see_everything(self, key: AuthorizedKey) -> bool:
        """Say whether a key may read every topic."""
        rights = self._file.current.rights.get(key.name)
        return rights is not None and rights.everything

    def _look(self) -> None:
        now = time.monotonic()
        since_s = now - self._looked_at
        if since_s >= _LOOK_S:
            self._looked_at = now
            self._file.look(since_s)


class Bearer:
    """Lets requests through that bring a token, and those for paths that anybody may ask for."""

    def __init__(self, app: App, *, tokens: Tokens, free: Container[str]) -> None:
        """
        Args:
            free: Paths that need no token.

        """
        self._app = app
        self._tokens = tokens
        self._free = free

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or say what it lacks."""
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
    """Return the identifier of the session that a request's cookie names; empty without one."""
    for part in _header(scope, b"cookie").split(";"):
        name, _, value = part.strip().partition("=")
        if name == COOKIE:
            return value
    return ""
