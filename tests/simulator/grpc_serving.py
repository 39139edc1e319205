"""A gRPC server that can be stopped, restarted on its port, refuse, and be deaf."""

import asyncio
import hashlib
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

import grpc
import grpc.aio

from tests.simulator import faults
from tests.simulator.mischief import Mischief

_OPTIONS: Final = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
)

Handlers = Mapping[str, Mapping[str, grpc.RpcMethodHandler]]
"""Services, and their methods."""


class GrpcServer:
    """One listening port with some services; subclasses say which."""

    protocol = "grpc"

    def __init__(self, mischief: Mischief) -> None:
        self.mischief = mischief
        self.streams_per_connection = 0
        """HTTP/2's limit of streams, as proxies have one; 0 for none."""
        self._server: grpc.aio.Server | None = None
        self._port = 0
        self._let_in: deque[float] = deque()
        self.refused = 0
        """Calls beyond a rate limit."""

    @property
    def endpoint(self) -> str:
        """Where it listens: ``host:port``."""
        return f"127.0.0.1:{self._port}"

    def handlers(self) -> Handlers:
        """Return the services."""
        raise NotImplementedError

    async def start(self) -> None:
        """Listen, on the port it had before if it had one."""
        limit = self.streams_per_connection
        limits = (("grpc.max_concurrent_streams", limit),) if limit else ()
        self._server = grpc.aio.server(options=_OPTIONS + limits)
        for service, methods in self.handlers().items():
            handler = grpc.method_handlers_generic_handler(service, dict(methods))
            self._server.add_generic_rpc_handlers((handler,))
        self._port = self._server.add_insecure_port(self.endpoint)
        await self._server.start()

    async def stop(self) -> None:
        """Close the port and end every call."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(None)

    def cut(self) -> None:
        """End every stream as a lost connection does; single calls are too short for it."""

    async def admit(self, context: Any) -> None:
        """Let a call in, or refuse it, or never answer."""
        status = self.mischief.refuse(self.protocol) or (429 if self._too_many() else 0)
        if status:
            # What grpc makes of a bare HTTP answer (doc/http-grpc-status-mapping.md).
            reason = f"Received http2 header with status: {status}"
            await context.abort(grpc.StatusCode.UNAVAILABLE, reason)
        if self.mischief.find(faults.Deaf, self.protocol):
            await asyncio.Event().wait()

    def _too_many(self) -> bool:
        """Say whether this call is one too many within a second, and count it if not."""
        limit = self.mischief.find(faults.RateLimit, self.protocol)
        if limit is None:
            return False
        now = time.monotonic()
        while self._let_in and self._let_in[0] <= now - 1.0:
            self._let_in.popleft()
        if len(self._let_in) >= limit.per_s:
            self.refused += 1
            return True
        self._let_in.append(now)
        return False

    def cookie(self) -> str:
        """Return the cookie that the balancer hands out now."""
        return "lb=" + hashlib.sha256(str(self.mischief.cookie).encode()).hexdigest()

    def set_cookie(self) -> list[tuple[str, str]]:
        """Return what the balancer adds to an answer's initial metadata."""
        changed = self.mischief.find(faults.CookieChange, self.protocol)
        return [("set-cookie", f"{self.cookie()}; Path=/")] if changed else []


def unary(method: Any, request: Any) -> grpc.RpcMethodHandler:
    """Describe a unary method of parsed messages."""
    return grpc.unary_unary_rpc_method_handler(
        method, request.FromString, lambda response: response.SerializeToString()
    )


def streaming(method: Any, request: Any) -> grpc.RpcMethodHandler:
    """Describe a streaming method that yields bytes."""
    return grpc.unary_stream_rpc_method_handler(method, request.FromString, None)


def sent(context: Any, key: str) -> str:
    """Return one value of the call's metadata, or nothing."""
    metadata: Sequence[tuple[str, str]] = context.invocation_metadata() or ()
    return next((value for name, value in metadata if name == key), "")
