"""Check a capture: the same frames again, compared with the chain as it is now."""

import msgspec

from collector.verify import capture
from collector.verify.capture import Begin, CaptureError, End
from collector.verify.chain import Chain
from collector.verify.findings import Findings
from collector.verify.published import Lost, Published, from_body
from collector.verify.verifier import Verifier


def check(path: str, chain: Chain, *, books_every: int | None = None) -> Findings:
    """
    Compare a capture with the chain.

    Raises:
        CaptureError: If it is not a capture, or has no end.
        Unreachable: If the node does not answer, or has pruned what is needed.

    """
    records = capture.read(path)
    topic, body = next(records, ("", b""))
    if topic != "begin":
        raise CaptureError(f"{path} is not a capture: it has no beginning record")
    begin = msgspec.msgpack.decode(body, type=Begin)
    verifier = Verifier(
        chain,
        begin.markets,
        begin.first,
        channels=begin.channels,
        books_every=books_every,
        keep_all=True,
    )
    with verifier:
        for topic, body in records:
            if topic == "end":
                return verifier.finish(msgspec.msgpack.decode(body, type=End))
            if topic == "lost":
                verifier.take(Lost(**msgspec.msgpack.decode(body)))
            else:
                verifier.take(_published(path, topic, body))
    raise CaptureError(f"{path} has no end: its recording was killed")


def _published(path: str, topic: str, body: bytes) -> Published | None:
    try:
        return from_body(body)
    except ValueError as error:
        raise CaptureError(f"{path}: {topic} {error}") from None
