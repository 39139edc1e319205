"""Whom we reach and how: status codes, URLs with their secrets, proxies, address families."""

import logging

import grpc
import pytest
from hypothesis import given, strategies as st

from shards.net.access import Access, is_refusal
from shards.net.proxies import proxy_of
from shards.net.rpc import websocket_url
from shards.protocol.errors import SourceError
from shards.protocol.text import without_secrets
from shards.runtime.logs import JsonFormatter, TextFormatter


class _Failed(grpc.RpcError):  # type: ignore[misc]
    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        self._code, self._details = code, details

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details


@pytest.mark.parametrize(
    ("details", "refused"),
    [
        ("Received http2 header with status: 429", True),
        ("Too Many Requests", True),
        ("rate limit exceeded", True),
        ("failed to connect to all addresses; ipv4:127.0.0.1:42910: Connection refused", False),
        ("Received message larger than max (4290000 vs. 4194304)", False),
        ("could not find results for height #429", False),
        ("Received http2 header with status: 502", False),
    ],
)
@pytest.mark.parametrize("code", ["UNAVAILABLE", "RESOURCE_EXHAUSTED"])
def test_a_status_code_is_read_as_one(code: str, details: str, refused: bool) -> None:
    assert is_refusal(_Failed(grpc.StatusCode[code], details)) == refused


@pytest.mark.parametrize(
    ("rpc", "url"),
    [
        ("http://127.0.0.1:26657", "ws://127.0.0.1:26657/websocket"),
        ("https://host/", "wss://host/websocket"),
        ("https://host/x?apikey=K", "wss://host/x/websocket?apikey=K"),
        ("https://u:p@host:1/http/y/?a=b&c=d", "wss://u:p@host:1/http/y/websocket?a=b&c=d"),
        ("http://[::1]:26657", "ws://[::1]:26657/websocket"),
    ],
)
def test_the_websocket_of_an_rpc_url(rpc: str, url: str) -> None:
    assert websocket_url(rpc) == url


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://host/x?apikey=K", "https://host/x?apikey=***"),
        ("wss://user:pa@ss@host:1/websocket", "wss://***@host:1/websocket"),
        ("https://host/v2/Abc0123456789defgh", "https://host/v2/***"),
        ("at https://host/a?k=KEY: 404", "at https://host/a?k=***: 404"),
        ("ws://127.0.0.1:9998/injstream-ws", "ws://127.0.0.1:9998/injstream-ws"),
        ("https://sentry.tm.injective.network:443", "https://sentry.tm.injective.network:443"),
        (
            "ipc:///tmp/collector-0123456789abcdef/admin",
            "ipc:///tmp/collector-0123456789abcdef/admin",
        ),
    ],
)
def test_secrets_of_urls_are_left_out(text: str, shown: str) -> None:
    assert without_secrets(text) == shown


_KEYS = st.text("abcdefghijkmnpqrstuvwxyzABCDEFG23456789_-", min_size=16).map(lambda key: f"7{key}")


@given(_KEYS, st.sampled_from(["https://h/x?apikey={}", "wss://u:{}@h/y", "https://h:1/v1/{}/rpc",
                               "http://h?a=b&token={}&c", "https://{}@h", "https://h/{}"]))  # fmt: skip
def test_no_key_is_in_an_error_nor_in_a_log_line(key: str, form: str) -> None:
    url = form.format(key)
    error = SourceError(url, f"cannot reach {url}: HTTP 404")
    assert key not in str(error) + error.endpoint + error.reason
    for formatter in (TextFormatter("%(message)s"), JsonFormatter("test")):
        record = logging.LogRecord("x", logging.INFO, "", 0, "%s: it is at %s", ("a", url), None)
        assert key not in formatter.format(record)


def test_what_is_on_this_machine_is_never_asked_through_a_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost", "node.localhost"):
        assert proxy_of(host) is None
    assert proxy_of("sentry.tm.injective.network") == ("http://127.0.0.1:9", "http_proxy")
    failed = Access().failed("node.example:443", _Failed(grpc.StatusCode.UNAVAILABLE, "refused"))
    assert failed.reason == "UNAVAILABLE refused (through the proxy that http_proxy names)"
    monkeypatch.setenv("no_proxy", ".example")
    assert proxy_of("node.example") is None
