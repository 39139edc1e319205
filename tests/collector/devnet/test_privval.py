"""What the signer signs, byte by byte, after CometBFT's own test vectors for votes."""

from io import BytesIO

from collector.devnet.privval import (
    nested,
    prefixed,
    proposal_sign_bytes,
    read_fields,
    read_message,
    vote_sign_bytes,
)

# Go's zero time, as in CometBFT's `TestVoteSignBytesTestVectors` (types/vote_test.go).
ZERO_TIME = bytes.fromhex("088092b8c398feffffff01")
CANONICAL_TIME = nested(5, ZERO_TIME)
HASH = b"h" * 32
BLOCK_ID = nested(1, HASH) + nested(2, b"\x08\x01" + nested(2, HASH))


def test_an_empty_vote_signs_its_time_and_chain():
    vote = nested(4, nested(2, b"")) + nested(5, ZERO_TIME)
    assert vote_sign_bytes(vote, b"c") == prefixed(CANONICAL_TIME + nested(6, b"c"))


def test_height_and_round_are_signed_in_fixed_width():
    vote = b"\x08\x02\x10\x01\x18\x01" + nested(5, ZERO_TIME)
    one = b"\x01" + bytes(7)
    assert vote_sign_bytes(vote, b"") == prefixed(
        b"\x08\x02" + b"\x11" + one + b"\x19" + one + CANONICAL_TIME + nested(6, b"")
    )


def test_validator_and_signature_are_not_signed():
    vote = b"\x08\x01\x10\x07" + nested(4, BLOCK_ID) + nested(5, ZERO_TIME)
    more = vote + nested(6, b"a" * 20) + b"\x38\x03" + nested(8, b"s" * 64)
    assert vote_sign_bytes(more, b"c") == vote_sign_bytes(vote, b"c")
    assert BLOCK_ID in vote_sign_bytes(vote, b"c")


def test_a_proposal_without_an_earlier_round_signs_minus_one():
    minus_one = b"\x20" + b"\xff" * 9 + b"\x01"
    proposal = b"\x08\x20\x10\x07" + minus_one + nested(5, BLOCK_ID) + nested(6, ZERO_TIME)
    signed = proposal_sign_bytes(proposal, b"c")
    head = b"\x08\x20\x11\x07" + bytes(7)
    assert signed == prefixed(
        head + minus_one + nested(5, BLOCK_ID) + nested(6, ZERO_TIME) + nested(7, b"c")
    )


def test_messages_are_read_one_by_one_until_the_end():
    long = nested(1, b"x" * 300)
    stream = BytesIO(prefixed(long) + prefixed(nested(7, b"")))
    assert read_message(stream.read) == long
    assert list(read_fields(read_message(stream.read))) == [(7, b"")]
    assert read_message(stream.read) == b""
