"""A publisher that refuses every question, as one does with too many of them, or a key with few rights."""

import contextlib
import threading
from collections.abc import Iterator

import msgspec
import zmq

from tests.system.running import free_port_pair


@contextlib.contextmanager
def refusing(why: str, *, first: int = 0) -> Iterator[str]:
    """
    Answer every question with this sentence; return where the publisher would be.

    The ``first`` ones are answered, with a status that knows nothing.
    """
    port = free_port_pair()
    stopping = threading.Event()

    def answer(asked: int = 0) -> None:
        with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
            router.linger = 0
            router.bind(f"tcp://127.0.0.1:{port + 1}")
            while not stopping.is_set():
                if router.poll(50):
                    sender, question = router.recv_multipart()
                    said: dict[str, object] = {"error": why} if asked >= first else {"status": {}}
                    said["id"] = msgspec.msgpack.decode(question)["id"]
                    router.send_multipart([sender, msgspec.msgpack.encode(said)])
                    asked += 1

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield f"tcp://127.0.0.1:{port}"
    finally:
        stopping.set()
        thread.join()
