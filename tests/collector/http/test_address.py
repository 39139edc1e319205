"""Where HTTP is served, and what is said where it cannot be."""

import socket

import pytest

from collector.http.address import address, check, listen
from shards.protocol.errors import ConfigError


@pytest.mark.parametrize(
    ("http", "expected"),
    [
        ("127.0.0.1:9464", ("127.0.0.1", 9464)),
        (":9464", ("127.0.0.1", 9464)),
        ("9464", ("127.0.0.1", 9464)),
        ("0.0.0.0:80", ("0.0.0.0", 80)),
        ("localhost:80", ("localhost", 80)),
        ("[::1]:80", ("::1", 80)),
    ],
)
def test_without_a_host_it_is_loopback(http: str, expected: tuple[str, int]) -> None:
    assert address(http) == expected


@pytest.mark.parametrize("http", ["", "localhost", "localhost:", "a:0", "a:65536", "::1:80", "a:x"])
def test_what_is_no_address_is_refused_in_a_sentence(http: str) -> None:
    with pytest.raises(
        ConfigError, match="--http must be HOST:PORT with a port from 1 to 65535, not"
    ):
        address(http)


def test_a_port_in_use_is_found_before_anything_runs() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        http = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match=r"cannot serve HTTP on .*: Address already in use"):
            check(http)
    check(http)


def test_a_host_that_is_not_ours_is_said() -> None:
    with pytest.raises(ConfigError, match=r"cannot serve HTTP on 192\.0\.2\.1:9464"):
        listen("192.0.2.1:9464")
