"""How often strangers may try, by address and in all; and the kernel's part of it."""

import socket

import pytest
from hypothesis import given, strategies as st

from collector.access import accept_filter
from collector.access.attempt_limits import (
    ADDRESS_SHUT_S,
    ALL_SHUT_S,
    Attempts,
    ShutOut,
    network_of,
)

A, B = network_of("192.0.2.1"), network_of("2001:db8::1")


def test_networks() -> None:
    assert network_of("192.0.2.1") == bytes([192, 0, 2, 1]) == network_of("::ffff:192.0.2.1")
    # A host has 64 bits of an IPv6 address to itself.
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff%eth0")
    assert network_of("2001:db8:0:1::1") != network_of("2001:db8::1")
    assert network_of("") == network_of("somewhere") == b""


def flood(attempts: Attempts, network: bytes, number: int, now: float) -> list[str]:
    return [attempts.came(network, now) for _ in range(number)]


def test_an_address_that_fails_too_often_is_shut_out_and_let_in_again() -> None:
    attempts = Attempts(20.0, 1e6)
    assert flood(attempts, A, 1_000, 0.0) == [""] * 1_000
    assert flood(attempts, A, 2, 0.0) == ["address"] * 2
    assert attempts.shut_out(0.0).refused == (A,)
    assert attempts.came(B, 0.0) == ""
    later = ADDRESS_SHUT_S
    assert attempts.shut_out(later).refused == ()
    # What it has regained meanwhile, and no more.
    assert flood(attempts, A, 201, later) == [""] * 200 + ["address"]


def test_who_shows_a_key_is_never_held_up() -> None:
    attempts = Attempts(20.0, 100.0)
    for _ in range(10_000):
        assert attempts.came(A, 0.0) == ""
        attempts.proved(A, 0.0)


def test_all_together_shut_out_strangers_but_nobody_who_had_a_key() -> None:
    attempts = Attempts(20.0, 100.0)
    assert attempts.came(A, 0.0) == ""
    attempts.proved(A, 0.0)
    others = [bytes([10, 0, n >> 8, n & 255]) for n in range(2_001)]
    assert [attempts.came(one, 0.0) for one in others] == [""] * 2_000 + ["attempts"]
    assert attempts.came(B, 0.0) == "attempts"
    assert attempts.came(A, 0.0) == ""
    found = attempts.shut_out(0.0)
    assert (found.strangers, found.known, found.refused) == (True, (A,), ())
    assert attempts.came(B, ALL_SHUT_S) == ""
    assert not attempts.shut_out(ALL_SHUT_S).strangers


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.floats(0, 5)), max_size=300))
def test_nobody_is_shut_out_for_what_was_proved(steps: list[tuple[int, bool, float]]) -> None:
    """However honest ones and strangers are mixed: who always shows a key always gets in."""
    attempts = Attempts(1.0, 1.0)
    now = 0.0
    for who, is_honest, passed in steps:
        now += passed
        network = bytes([10, int(is_honest), 0, who])
        reason = attempts.came(network, now)
        if is_honest and not reason:
            attempts.proved(network, now)
        assert reason != "address" or not is_honest


def test_who_has_gone_counts_for_all_together_only() -> None:
    attempts = Attempts(20.0, 100.0)
    assert flood(attempts, b"", 2_001, 0.0) == [""] * 2_000 + ["attempts"]
    attempts.proved(b"", 0.0)
    assert attempts.shut_out(0.0).key() == ((), (), True)


def listener(address: str) -> socket.socket:
    if ":" in address:
        return socket.create_server((address, 0), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server((address, 0))


def gets_in(server: socket.socket, source: str) -> bool:
    host = "::1" if ":" in source else "127.0.0.1"
    try:
        with socket.create_connection(
            (host, server.getsockname()[1]), 0.3, source_address=(source, 0)
        ):
            server.accept()[0].close()
            return True
    except TimeoutError:
        return False


@pytest.mark.parametrize("address", ["127.0.0.1", "::"])
def test_the_kernel_refuses_who_is_shut_out(address: str) -> None:
    loud, known = network_of("127.0.0.66"), network_of("127.0.0.2")
    with listener(address) as server:
        if not accept_filter.apply(server.fileno(), ShutOut()):
            pytest.skip("no socket filters here")
        everybody = ["127.0.0.1", "127.0.0.2", "127.0.0.66"] + ["::1"] * (address == "::")

        def let_in(shut_out: ShutOut) -> list[str]:
            assert accept_filter.apply(server.fileno(), shut_out)
            return [one for one in everybody if gets_in(server, one)]

        assert let_in(ShutOut((loud,))) == [one for one in everybody if one != "127.0.0.66"]
        assert let_in(ShutOut((), (known,), strangers=True)) == ["127.0.0.2"]
        assert let_in(ShutOut((known,), (known,), strangers=True)) == []
        assert let_in(ShutOut()) == everybody
        if address == "::":
            local = network_of("::1")
            assert let_in(ShutOut((local,))) == everybody[:-1]
            assert let_in(ShutOut((), (local,), strangers=True)) == ["::1"]


@pytest.mark.parametrize("size", [4, 8])
def test_the_longest_filter_is_one_that_the_kernel_takes(size: int) -> None:
    many = tuple(n.to_bytes(size, "big") for n in range(1 << 24, (1 << 24) + 384))
    with listener("127.0.0.1") as server:
        if not accept_filter.apply(server.fileno(), ShutOut()):
            pytest.skip("no socket filters here")
        shut_out = ShutOut(many[:256], many[256:], strangers=True)
        assert accept_filter.apply(server.fileno(), shut_out)
        assert not gets_in(server, "127.0.0.1")
