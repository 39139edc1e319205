"""`collector health` against servers that answer well, badly, or not at all."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from click.testing import CliRunner

from collector.cli.main import cli
from tests.dripping import dripping
from tests.system.running import free_port_pair


class Answers(BaseHTTPRequestHandler):
    """Answers each path with what the test put there."""

    pages: dict[str, tuple[int, bytes]] = {}  # noqa: RUF012 - one server at a time

    def do_GET(self) -> None:
        status, body = self.pages[self.path]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def ask(*arguments: str, **environment: str) -> tuple[int, str]:
    done = CliRunner().invoke(cli, ["health", *arguments], env=environment)
    return done.exit_code, done.output.strip()


def test_alive_and_ready_are_two_questions(server: str):
    Answers.pages = {
        "/healthz": (200, b'{"alive":true,"reason":""}'),
        "/readyz": (503, b'{"ready":false,"reason":"coverage 0.5000 is below 0.99"}'),
    }
    assert ask("--http", server) == (0, "healthy")
    assert ask("--http", server, "--ready") == (4, "not healthy: coverage 0.5000 is below 0.99")


def test_the_address_is_the_collectors_own(server: str):
    Answers.pages = {"/healthz": (200, b'{"alive":true,"reason":""}')}
    port = server.rpartition(":")[2]
    for where in (server, port, f"0.0.0.0:{port}"):
        assert ask(COLLECTOR_START_HTTP=where) == (0, "healthy")
        assert ask(COLLECTOR_HEALTH_HTTP=where) == (0, "healthy")
    code, said = ask(COLLECTOR_START_HTTP="nowhere")
    assert code == 3
    assert "COLLECTOR_START_HTTP must be HOST:PORT" in said


@pytest.mark.parametrize("body", [b"", b"hello", b"[]", b'{"reason":7}', b"\xff"])
def test_who_answers_otherwise_is_no_healthy_collector(server: str, body: bytes):
    Answers.pages = {"/healthz": (200, body)}
    assert ask("--http", server)[0] == 4


def test_nobody_is_not_healthy():
    port = free_port_pair()
    assert ask("--http", str(port)) == (
        4,
        f"not healthy: {port} does not answer: [Errno 111] Connection refused",
    )


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nX-A: ", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_an_answer_that_never_ends_is_not_waited_for(head: bytes):
    """A byte now and then: no single read is ever late."""
    with dripping(head) as where:
        code, said = ask("--http", where)
    assert (code, said) == (4, f"not healthy: {where} does not answer: no whole answer within 4 s")


def test_an_answer_without_an_end_is_not_read_into_memory():
    with dripping(b"HTTP/1.1 200 OK\r\n\r\n", piece=b" " * 65_536, every_s=0.0) as where:
        code, said = ask("--http", where)
    assert code == 4
    assert said == f"not healthy: {where}/healthz does not answer with JSON: is it a collector?"
