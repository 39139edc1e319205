"""A TLS server before a plain one, as a balancer is: for WebSockets, HTTP and gRPC alike."""

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import trustme


class Certificates(NamedTuple):
    """The files of a made-up authority, and of a client that it knows."""

    ca: Path
    certificate: Path
    key: Path
    server: ssl.SSLContext
    """Presents a certificate for 127.0.0.1; `demanding` one also asks for the client's."""
    demanding: ssl.SSLContext


def make_certificates(folder: Path) -> Certificates:
    """Make an authority, a server's certificate and a client's."""
    authority = trustme.CA()
    client = authority.issue_cert("collector@example.org")
    ca, certificate, key = (folder / name for name in ("ca.pem", "client.pem", "client.key"))
    authority.cert_pem.write_to_path(ca)
    client.cert_chain_pems[0].write_to_path(certificate)
    client.private_key_pem.write_to_path(key)
    contexts = []
    for demand in (False, True):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # gRPC insists on its protocol; a WebSocket's handshake offers none.
        context.set_alpn_protocols(["h2"])
        authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
        if demand:
            authority.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        contexts.append(context)
    return Certificates(ca, certificate, key, *contexts)


@contextlib.contextmanager
def tls_before(upstream: str, context: ssl.SSLContext) -> Iterator[int]:
    """Serve TLS on a free port of loopback before ``host:port``, and give the port."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    host, _, port = upstream.rpartition(":")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        plain_reader, plain_writer = await asyncio.open_connection(host, int(port))
        with contextlib.suppress(OSError, asyncio.CancelledError):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_pass_on(reader, plain_writer))
                tasks.create_task(_pass_on(plain_reader, writer))

    async def start() -> asyncio.Server:
        return await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)

    async def stop(server: asyncio.Server) -> None:
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    server = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        asyncio.run_coroutine_threadsafe(stop(server), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(90)
        loop.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.transport.abort()
