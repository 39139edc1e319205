"""What a validator signs, and how CometBFT asks for it: bytes in, bytes out."""

from collections.abc import Callable, Iterator


def read_fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Give the fields of a protobuf message in order; fixed-width ones do not occur here."""
    position = 0
    while position < len(data):
        tag, position = _read_varint(data, position)
        value, position = _read_varint(data, position)
        if tag & 7 == 0:
            yield tag >> 3, value
        else:
            yield tag >> 3, data[position : position + value]
            position += value


def read_message(read: Callable[[int], bytes]) -> bytes:
    """Read one message, preceded by its length; empty at the end of the connection."""
    size = shift = 0
    while byte := read(1):
        size |= (byte[0] & 0x7F) << shift
        shift += 7
        if byte[0] < 0x80:
            return read(size)
    return b""


def prefixed(message: bytes) -> bytes:
    """Put the message's length before it."""
    return _varint(len(message)) + message


def nested(field: int, value: bytes) -> bytes:
    """Encode a field of bytes, text or a message; an empty one is written too."""
    return _varint(field << 3 | 2) + prefixed(value)


def vote_sign_bytes(vote: bytes, chain_id: bytes) -> bytes:
    """Give what a signature under this `Vote` signs: its `CanonicalVote`, with the length."""
    fields = _Fields(vote)
    return prefixed(
        fields.head() + fields.block_id(4) + nested(5, fields.message(5)) + nested(6, chain_id)
    )


def proposal_sign_bytes(proposal: bytes, chain_id: bytes) -> bytes:
    """Give what a signature under this `Proposal` signs: its `CanonicalProposal`."""
    fields = _Fields(proposal)
    return prefixed(
        fields.head()
        + _number(4, fields.number(4))
        + fields.block_id(5)
        + nested(6, fields.message(6))
        + nested(7, chain_id)
    )


class _Fields:
    """The fields of a message by number; an absent one is zero or empty, as in protobuf."""

    def __init__(self, data: bytes) -> None:
        self._content = dict(read_fields(data))

    def number(self, field: int) -> int:
        value = self._content.get(field, 0)
        assert isinstance(value, int)
        return value

    def message(self, field: int) -> bytes:
        value = self._content.get(field, b"")
        assert isinstance(value, bytes)
        return value

    def head(self) -> bytes:
        """Encode type, height and round: plain numbers as asked, of fixed width as signed."""
        return _number(1, self.number(1)) + _fixed(2, self.number(2)) + _fixed(3, self.number(3))

    def block_id(self, field: int) -> bytes:
        """Encode the block id; one without a hash, a vote for no block, is left out."""
        block = self.message(field)
        return nested(field, block) if _Fields(block).message(1) else b""


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value) if value else b""


def _fixed(field: int, value: int) -> bytes:
    return _varint(field << 3 | 1) + value.to_bytes(8, "little") if value else b""
