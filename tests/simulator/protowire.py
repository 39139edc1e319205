"""The three kinds of protobuf field that the simulator writes; absent where zero, as proto3 has it."""


def varint(value: int) -> bytes:
    """Write an unsigned integer, seven bits a byte."""
    if value < 0x80:
        return bytes((value,))
    written = bytearray()
    while value >= 0x80:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


def number(tag: int, value: int) -> bytes:
    """Write an unsigned or never negative integer, or a bool."""
    return varint(tag << 3) + varint(int(value)) if value else b""


def string(tag: int, text: str) -> bytes:
    """Write a string."""
    return submessage(tag, text.encode()) if text else b""


def submessage(tag: int, content: bytes) -> bytes:
    """Write a message, which is there even when it is empty."""
    return varint(tag << 3 | 2) + varint(len(content)) + content


def zigzag(tag: int, value: int) -> bytes:
    """Write a sint32 or sint64."""
    return number(tag, value << 1 if value >= 0 else (-value << 1) - 1)
