"""A server whose answers never end: a piece, again and again, each well in time."""

import contextlib
import socket
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def dripping(head: bytes, *, piece: bytes = b" ", every_s: float = 0.2) -> Iterator[str]:
    """Listen on a free port of loopback, and answer whoever connects; yield HOST:PORT."""
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_serve, args=(server, head, piece, every_s, stop))
        thread.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            stop.set()
            # Wakes accept().
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def _serve(
    server: socket.socket, head: bytes, piece: bytes, every_s: float, stop: threading.Event
) -> None:
    with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
        while not stop.is_set():
            peer = stack.enter_context(server.accept()[0])
            one = threading.Thread(target=_drip, args=(peer, head, piece, every_s, stop))
            one.start()
            stack.callback(one.join)


def _drip(
    peer: socket.socket, head: bytes, piece: bytes, every_s: float, stop: threading.Event
) -> None:
    peer.settimeout(5)
    with contextlib.suppress(OSError):
        peer.recv(65_536)
        peer.sendall(head)
        while not stop.wait(every_s):
            peer.sendall(piece)
