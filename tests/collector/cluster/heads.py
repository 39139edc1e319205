"""What a command finds at the address of Ray's head."""

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc


@contextlib.contextmanager
def head(code: grpc.StatusCode | None) -> Iterator[str]:
    """Something at a head's address that answers every call, or refuses it."""

    def answer(request: bytes, context: Any) -> bytes:
        if code is not None:
            context.abort(code, "no")
        return b""

    server = grpc.server(ThreadPoolExecutor(1))
    methods = {"GetClusterId": grpc.unary_unary_rpc_method_handler(answer)}
    service = grpc.method_handlers_generic_handler("ray.rpc.NodeInfoGcsService", methods)
    server.add_generic_rpc_handlers((service,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait(5)
