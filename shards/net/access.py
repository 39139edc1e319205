"""
How one process reaches a network's servers: the one place for TLS, cookies and rate limits.

Every connection goes through an `Access`. It opens gRPC channels and supplies TLS contexts and
headers for WebSockets. No request is sent before its turn (token_bucket.py), and none while the
host refuses requests with HTTP 429.
"""

import asyncio
import errno
import logging
import os
import re
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import grpc
import grpc.aio

from shards.net import tls
from shards.net.cookies import Cookies
from shards.net.proxies import proxy_of
from shards.net.token_bucket import TokenBucket, bucket_name
from shards.protocol.errors import SourceError
from shards.protocol.settings import Endpoints, Quota

log = logging.getLogger(__name__)

Metadata = tuple[tuple[str, str], ...]

MESSAGE_BYTES: Final = 64 << 20
"""Largest message accepted by default."""
_OPTIONS: Final = (
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)
_ANY: Final = Quota("hosts")
_BUSY_S: Final = 0.001
_BUSY_TURNS: Final = 50
"""Tries after which the bucket's holder must be a stopped process; then query without a turn."""
_TRIES: Final = 4
"""Tries of a blocking query that the host refuses; async callers have their own retry loops."""
_UNREACHABLE: Final = frozenset(
    {errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ETIMEDOUT}
)
_TOO_LARGE: Final = "larger than max"
"""Part of gRPC's text for a message above the size limit."""
_TOO_MANY: Final = 429
_refused_with: Final = re.compile(r"\bstatus: ?(\d{3})\b").findall
"""How gRPC names an HTTP status received instead of a gRPC one. A bare three-digit search would
also match ports, byte counts and heights."""
_REFUSALS: Final = ("too many requests", "rate limit")


def target_of(endpoint: str, *, tls: bool) -> tuple[str, bool]:
    """Split a gRPC endpoint into target and TLS: ``host:port``, or with its own http(s)://."""
    scheme, found, rest = endpoint.partition("://")
    return (rest.rstrip("/"), scheme == "https") if found else (endpoint, tls)


def host_of(endpoint: str) -> str:
    """Return the host name of an endpoint of any kind."""
    return urlsplit(endpoint if "://" in endpoint else f"//{endpoint}").hostname or endpoint


class Access:
    """Opens all connections of one process into one network."""

    def __init__(
        self,
        network: Endpoints | None = None,
        folder: str = "",
        *,
        message_bytes: int = MESSAGE_BYTES,
        quotas: Sequence[Quota] = (_ANY,),
    ) -> None:
        """
        Start without cookies. Token buckets are shared through `folder`; without it they are private.

        Endpoints that are in none of the quotas' lists belong to the first one.

        Raises:
            ConfigError: If a certificate cannot be read.

        """
        self.message_bytes = message_bytes
        """Larger messages are refused unread, on every connection."""
        self._options = (*_OPTIONS, ("grpc.max_receive_message_length", message_bytes))
        self._network = network or Endpoints()
        self._folder = Path(folder) if folder else None
        self._quota = quotas[0]
        self._quotas = {
            endpoint: quota
            for quota in quotas
            for name in quota.lists
            for endpoint in self._network.of(name)
        }
        self._cookies = {quota.group: Cookies() for quota in quotas}
        self._buckets: dict[str, TokenBucket] = {}
        self._credentials = tls.credentials(self._network)
        self._ssl_context: ssl.SSLContext | None = None

    # ---- connections ----------------------------------------------------------------

    def open_channel(
        self, endpoint: str, *, options: Sequence[tuple[str, Any]] = ()
    ) -> grpc.aio.Channel:
        """Open a channel for asyncio; the caller closes it."""
        target, secure = target_of(endpoint, tls=self._network.tls)
        direct = self._direct(endpoint)
        together = list((dict(self._options) | direct | dict(options)).items())
        if secure:
            return grpc.aio.secure_channel(target, self._credentials, together)
        return grpc.aio.insecure_channel(target, together)

    def open_blocking(self, endpoint: str) -> grpc.Channel:
        """Open a blocking channel, for use in a thread."""
        target, secure = target_of(endpoint, tls=self._network.tls)
        if secure:
            return grpc.secure_channel(target, self._credentials, self._blocking(endpoint))
        return grpc.insecure_channel(target, self._blocking(endpoint))

    def _blocking(self, endpoint: str) -> Sequence[tuple[str, Any]]:
        return (*self._options, *self._direct(endpoint).items())

    def _direct(self, endpoint: str) -> dict[str, int]:
        """Options that keep gRPC from using a proxy where none should be used (proxies.py)."""
        return {} if proxy_of(host_of(endpoint)) else {"grpc.enable_http_proxy": 0}

    def ssl_context(self, url: str) -> ssl.SSLContext | None:
        """Return the TLS context for a WebSocket or HTTP request to this URL; None without TLS."""
        if not url.startswith(("wss://", "https://")):
            return None
        if self._ssl_context is None:
            self._ssl_context = tls.ssl_context(self._network)
        return self._ssl_context

    # ---- cookies --------------------------------------------------------------------

    def metadata(self, endpoint: str) -> Metadata:
        """Return the metadata to send with a call, or the headers of a handshake."""
        cookie = ""
        if self._network.cookies:
            cookie = self._cookies_of(endpoint).header(host_of(endpoint), time.time())
        return (("cookie", cookie),) if cookie else ()

    def answered(self, endpoint: str, metadata: Iterable[tuple[str, Any]]) -> None:
        """Note a server's answer, with its initial metadata or headers."""
        set_cookies = [str(value) for name, value in metadata if name.lower() == "set-cookie"]
        self._cookies_of(endpoint).learn(host_of(endpoint), set_cookies, time.time())

    def failed(
        self,
        endpoint: str,
        error: Exception,
        *,
        refused: bool = False,
        retry_after_s: float = 0.0,
    ) -> SourceError:
        """Note a failed call, and return the error to raise."""
        self._cookies_of(endpoint).failed(host_of(endpoint))
        refused = refused or is_refusal(error)
        proxy = proxy_of(host_of(endpoint))
        through = f" (through the proxy that {proxy.variable} names)" if proxy else ""
        if refused or retry_after_s:
            self._bucket(endpoint).refused(time.monotonic(), retry_after_s)
        if isinstance(error, grpc.RpcError):
            status = status_of(error)
            reason = f"{status} {error.details()}{through}"
            away = is_unreachable(error)
            too_large = status == "RESOURCE_EXHAUSTED" and _TOO_LARGE in str(error.details())
            return SourceError(
                endpoint,
                reason,
                status=status,
                refused=refused,
                unreachable=away,
                too_large=too_large,
            )
        reason = str(error) or type(error).__name__
        return SourceError(
            endpoint, reason + through, refused=refused, unreachable=is_unreachable(error)
        )

    # ---- turns ----------------------------------------------------------------------

    async def turn(self, endpoint: str) -> None:
        """Wait for a turn to send a request to this endpoint's host."""
        for wait_s in _waits(self._bucket(endpoint)):
            await asyncio.sleep(wait_s)

    def blocking_turn(self, endpoint: str) -> None:
        """Wait for a turn, blocking this thread."""
        for wait_s in _waits(self._bucket(endpoint)):
            time.sleep(wait_s)

    def _bucket(self, endpoint: str) -> TokenBucket:
        quota = self._quota_of(endpoint)
        name = bucket_name(quota.group, _counted(host_of(endpoint), quota))
        if name not in self._buckets:
            self._buckets[name] = self._open_bucket(name, self.allowed_per_s(endpoint))
        return self._buckets[name]

    def _open_bucket(self, name: str, per_s: float) -> TokenBucket:
        """Open a bucket shared by all our processes; a private one if there is no room for a file."""
        if self._folder is None:
            return TokenBucket(None, per_s)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            return TokenBucket(self._folder / name, per_s)
        except OSError as error:
            log.warning("rate limits apply per process, not to all processes together: %s", error)
            return TokenBucket(None, per_s)

    def allowed_per_s(self, endpoint: str) -> float:
        """Return how many requests a second the endpoint's host gets from us; 0: no limit."""
        quota = self._quota_of(endpoint)
        asked: float | None = getattr(self._network, quota.setting)
        if asked is not None:
            return asked
        return quota.domain_per_s if _counted(host_of(endpoint), quota) == quota.domain else 0.0

    def _quota_of(self, endpoint: str) -> Quota:
        return self._quotas.get(endpoint, self._quota)

    def _cookies_of(self, endpoint: str) -> Cookies:
        return self._cookies[self._quota_of(endpoint).group]

    # ---- queries --------------------------------------------------------------------

    async def query(
        self,
        endpoint: str,
        method: Callable[..., Any],
        request: Any,
        *,
        timeout_s: float,
        metadata: Metadata = (),
    ) -> tuple[Any, dict[str, str]]:
        """
        Make one call of a gRPC stub, in turn: ``(response, initial metadata)``.

        Raises:
            SourceError: If it fails.

        """
        await self.turn(endpoint)
        call = method(request, timeout=timeout_s, metadata=(*metadata, *self.metadata(endpoint)))
        try:
            response = await call
            heard = await call.initial_metadata()
        except grpc.aio.AioRpcError as error:
            raise self.failed(endpoint, error) from None
        self.answered(endpoint, heard)
        return response, dict(heard)

    def blocking_query(
        self,
        endpoint: str,
        method: Any,
        request: Any,
        *,
        timeout_s: float,
        metadata: Metadata = (),
    ) -> tuple[Any, dict[str, str]]:
        """
        Make one call of a stub on a blocking channel, in turn; like `query`.

        Raises:
            SourceError: If it fails.

        """
        for _ in range(_TRIES - 1):
            try:
                return self._blocking_call(endpoint, method, request, timeout_s, metadata)
            except SourceError as error:
                if not error.refused:
                    raise
                # The next turn comes after the pause that the host demanded.
        return self._blocking_call(endpoint, method, request, timeout_s, metadata)

    def _blocking_call(
        self, endpoint: str, method: Any, request: Any, timeout_s: float, metadata: Metadata
    ) -> tuple[Any, dict[str, str]]:
        self.blocking_turn(endpoint)
        sent = (*metadata, *self.metadata(endpoint))
        try:
            response, call = method.with_call(request, timeout=timeout_s, metadata=sent)
        except grpc.RpcError as error:
            raise self.failed(endpoint, error) from None
        heard = call.initial_metadata()
        self.answered(endpoint, heard)
        return response, dict(heard)

    def close(self) -> None:
        """Unmap the buckets."""
        for bucket in self._buckets.values():
            bucket.close()
        self._buckets.clear()


def _counted(host: str, quota: Quota) -> str:
    """Return the name under which a host's requests are counted."""
    is_public = quota.domain and host.endswith(f".{quota.domain}")
    return quota.domain if is_public else host


def _waits(bucket: TokenBucket) -> Iterator[float]:
    """Yield how long to sleep, repeatedly, until it is our turn."""
    busy = 0
    while busy < _BUSY_TURNS:
        wait_s = bucket.take(time.monotonic())
        if wait_s is None:
            busy += 1
            yield _BUSY_S
            continue
        if wait_s > 0:
            yield wait_s
        if not bucket.paused(time.monotonic()):
            return


def status_of(error: Exception) -> str:
    """Return the name of a gRPC error's status code."""
    code = error.code() if isinstance(error, grpc.RpcError) else None
    return str(code.name) if code is not None else ""


def is_unreachable(error: Exception) -> bool:
    """
    Return whether no server answered: connection refused, no route, or silence.

    A server that closes an accepted connection, or returns an error, has answered.
    """
    if isinstance(error, TimeoutError):
        return True
    if isinstance(error, grpc.RpcError):
        details = str(error.details())
        return any(os.strerror(number) in details for number in _UNREACHABLE)
    # For a host with several addresses all failures are in one text, without a code.
    numbers = {int(found) for found in re.findall(r"\[Errno (\d+)\]", str(error))}
    return isinstance(error, OSError) and bool(numbers) and numbers <= _UNREACHABLE


def is_refusal(error: Exception) -> bool:
    """Return whether the host refused because of too many requests: HTTP 429, in gRPC's words."""
    if not isinstance(error, grpc.RpcError):
        return False
    if status_of(error) not in ("UNAVAILABLE", "RESOURCE_EXHAUSTED"):
        return False
    details = str(error.details()).lower()
    return str(_TOO_MANY) in _refused_with(details) or any(t in details for t in _REFUSALS)
