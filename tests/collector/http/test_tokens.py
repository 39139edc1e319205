"""Tokens over HTTP and the page's sessions: who gets in, over TLS, and how soon that ends."""

import asyncio
import contextlib
import http.client
import socket
import ssl
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import hypothesis  # noqa: F401 - before trio, else it warns at the end
import pytest
import trustme
from click.testing import CliRunner
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from collector.access import authorized_file, key_files
from collector.access.key_files import Keys
from collector.cli.main import cli
from collector.http import process as http_process
from collector.settings.parts import ServingConfig, TlsConfig
from collector.web import process as web_process
from shards.runtime.child import ChildContext
from tests.system.running import eventually, free_port_pair


class Served:
    """The metrics server and the page, both with TLS and tokens; nobody answers behind them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / authorized_file.FILE
        self.keys: dict[str, Keys] = {}
        self.authorize("alice")
        self.authorize("bob", topics=("trades.*",))
        self.keys["eve"] = key_files.make("eve")
        ca = trustme.CA()
        certificate = ca.issue_cert("localhost", "127.0.0.1")
        certificate.cert_chain_pems[0].write_to_path(folder / "cert.pem")
        certificate.private_key_pem.write_to_path(folder / "key.pem")
        (folder / "key.pem").chmod(0o600)
        self.context = ssl.create_default_context()
        ca.configure_trust(self.context)
        self.tls = TlsConfig(
            certificate=str(folder / "cert.pem"),
            key=str(folder / "key.pem"),
            authorized=str(self.file),
        )
        self.http = self.web = 0

    def authorize(self, name: str, **fields: Any) -> None:
        """Make a key and let it in."""
        self.keys[name] = key_files.make(name)
        public = key_files.public_part(self.keys[name])
        authorized_file.add(self.file, authorized_file.of_public(public, **fields))

    def ask(
        self, port: int, path: str, method: str = "GET", body: str = "", **headers: str
    ) -> http.client.HTTPResponse:
        """Ask over TLS, the certificate checked."""
        connection = http.client.HTTPSConnection(
            "127.0.0.1", port, context=self.context, timeout=90
        )
        connection.request(method, path, body or None, headers)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer

    def bearer(self, name: str) -> dict[str, str]:
        """Return the header of somebody's token."""
        return {"Authorization": f"Bearer {self.keys[name].token}"}

    def cookie(self, name: str) -> str:
        """Log in and return the cookie; empty if that is refused."""
        answer = self.ask(
            self.web, "/login", "POST", urlencode({"token": self.keys[name].token}),
            **{"Content-Type": "application/x-www-form-urlencoded"},
        )  # fmt: skip
        return str(answer.headers.get("set-cookie", ""))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Both servers, in a loop of their own."""
    served = Served(tmp_path_factory.mktemp("served"))
    nobody = f"tcp://127.0.0.1:{free_port_pair()}"
    served.http, served.web = free_port_pair(), free_port_pair()
    loop = asyncio.new_event_loop()
    lives: list[ChildContext] = []

    async def run() -> None:
        life = ChildContext()
        lives.append(life)
        serving = ServingConfig(
            http=f"127.0.0.1:{served.http}", requests=nobody, publish=nobody, tls=served.tls
        )
        page = web_process.WebConfig(
            connect=nobody, listen=f"127.0.0.1:{served.web}", tls=served.tls
        )
        await asyncio.gather(
            http_process._listen_and_serve(serving, life),
            web_process._listen_and_serve(page, life),
        )

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    try:
        for port in (served.http, served.web):
            eventually(partial(_answers, served, port), within_s=30)
        yield served
    finally:
        loop.call_soon_threadsafe(lives[0].stop.set)
        thread.join(90)
        loop.close()


def _answers(served: Served, port: int) -> bool:
    with contextlib.suppress(OSError):
        return bool(served.ask(port, "/healthz").status)
    return False


@pytest.mark.parametrize("path", ["/status", "/metrics", "/markets", "/events", "/history", "/x"])
def test_without_a_token_nothing_is_said(served: Served, path: str) -> None:
    assert served.ask(served.http, path).status == 401
    assert served.ask(served.http, path, Authorization="Bearer x").status == 401
    assert served.ask(served.http, path, **served.bearer("eve")).status == 401
    assert served.ask(served.http, path).headers["www-authenticate"] == "Bearer"


def test_probes_need_no_token(served: Served) -> None:
    assert served.ask(served.http, "/healthz").status == 200
    # The command finds out by itself that TLS is spoken, also if that was an option of `start`.
    done = CliRunner().invoke(cli, ["health", "--http", f"127.0.0.1:{served.http}"])
    assert (done.exit_code, done.output) == (0, "healthy\n")
    assert served.ask(served.http, "/readyz").status == 503


def test_a_token_opens_what_its_rights_say(served: Served) -> None:
    # 503: nobody answers behind it, but the door was open.
    assert served.ask(served.http, "/status", **served.bearer("alice")).status == 503
    assert served.ask(served.http, "/metrics", **served.bearer("alice")).status == 200
    assert served.ask(served.http, "/status", **served.bearer("bob")).status == 503
    assert served.ask(served.http, "/metrics", **served.bearer("bob")).status == 403


def test_plain_http_gets_nothing(served: Served) -> None:
    with socket.create_connection(("127.0.0.1", served.http), 10) as plain:
        plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert b"HTTP" not in plain.recv(4_096)


def test_the_page_sends_a_browser_to_the_form(served: Served) -> None:
    answer = served.ask(served.web, "/")
    assert (answer.status, answer.headers["location"]) == (303, "login")
    assert served.ask(served.web, "/login").status == 200
    assert served.ask(served.web, "/history").status == 401
    assert served.ask(served.web, "/static/js/main.js").status == 401
    assert served.ask(served.web, "/", Host="rebound.example").status == 421


def test_a_session_for_a_token(served: Served) -> None:
    cookie = served.cookie("alice")
    for word in ("HttpOnly", "Secure", "SameSite=strict"):
        assert word in cookie
    session = {"Cookie": cookie.partition(";")[0]}
    assert served.ask(served.web, "/", **session).status == 200
    assert served.ask(served.web, "/static/js/main.js", **session).status == 200
    assert served.ask(served.web, "/", Cookie="collector_session=x").status == 303
    assert not served.cookie("eve")
    # The page shows all markets.
    assert not served.cookie("bob")
    assert served.ask(served.web, "/logout", "POST", **session).status == 303
    assert served.ask(served.web, "/", **session).status == 303


def test_a_revoked_keys_session_and_live_connection_end(served: Served) -> None:
    served.authorize("carol")
    eventually(lambda: served.cookie("carol"), within_s=30)
    session = {"Cookie": served.cookie("carol").partition(";")[0]}
    url = f"wss://127.0.0.1:{served.web}/live"
    with pytest.raises(InvalidStatus):
        connect(url, ssl=served.context, open_timeout=60)
    with connect(url, ssl=served.context, additional_headers=session, open_timeout=60) as live:
        live.recv(30)
        authorized_file.remove(served.file, "carol")
        with contextlib.suppress(ConnectionClosed):
            for _ in range(1_000):
                live.recv(30)
        assert live.close_code == 1008
    assert served.ask(served.web, "/", **session).status == 303
