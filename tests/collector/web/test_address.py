"""Where the page may be served, and by which names it may be asked for."""

import socket

import pytest

from collector.web.address import is_ours, listen, url_of
from shards.protocol.errors import ConfigError


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("nowhere", "--listen must be HOST:PORT with a port from 0 to 65535, not"),
        ("127.0.0.1:port", "--listen must be HOST:PORT with a port from 0 to 65535, not"),
        ("127.0.0.1:70000", "--listen must be HOST:PORT with a port from 0 to 65535, not"),
        ("::1:5599", "--listen must be HOST:PORT with a port from 0 to 65535, not"),
        ("0.0.0.0:0", "can be reached from other machines"),
        ("[::]:0", "can be reached from other machines"),
        ("192.0.2.1:0", "can be reached from other machines"),
    ],
)
def test_an_address_that_will_not_do_is_refused_in_a_sentence(at: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        listen(at, option="--listen", allow_remote=False)


@pytest.mark.parametrize("at", ["0", ":0", "127.0.0.1:0"])
def test_without_a_host_it_is_loopback(at: str) -> None:
    with listen(at, option="--listen", allow_remote=False) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"


def test_an_address_in_use_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        at = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match="cannot listen on"):
            listen(at, option="--listen", allow_remote=False)


def test_the_url_is_one_that_this_machine_can_open() -> None:
    with listen("0.0.0.0:0", option="--listen", allow_remote=True) as listener:
        assert url_of(listener) == f"http://127.0.0.1:{listener.getsockname()[1]}/"
    with listen("localhost:0", option="--listen", allow_remote=False) as listener:
        assert url_of(listener).startswith(("http://127.0.0.1:", "http://[::1]:"))


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("127.0.0.1:5599", True),
        ("localhost:5599", True),
        ("LocalHost", True),
        ("[::1]:5599", True),
        ("[::1]", True),
        ("192.0.2.7:80", True),
        ("page.example:443", True),
        ("rebound.example:5599", False),
        ("127.0.0.1.rebound.example:5599", False),
        ("localhost.rebound.example", False),
        ("", False),
    ],
)
def test_foreign_names_are_not_ours(host: str, ours: bool) -> None:
    assert is_ours(host, frozenset({"page.example"})) is ours
