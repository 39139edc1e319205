"""`collector health`: one probe of a running collector, for container health checks."""

import contextlib
import http.client
import json
import os
from typing import Final

import click

from collector.cli import options, value_types
from collector.cli.command import Command
from collector.settings.addresses import host_port
from shards.net import http_get
from shards.protocol.errors import UNREADABLE, ConfigError
from shards.protocol.text import printable
from shards.runtime.exit_codes import EXIT_BELOW, EXIT_OK

_DEFAULT: Final = "127.0.0.1:9464"
_ANSWER_S: Final = 4.0
_LARGEST: Final = 65_536


@click.command(cls=Command)
@options.option(
    "--http",
    metavar="HOST:PORT",
    type=value_types.Address(least=1),
    help=f"The collector's HTTP address.  [default: COLLECTOR_START_HTTP, or else {_DEFAULT}]",
)
@options.option("--ready", is_flag=True, help="Also check that its data is up to date (/readyz).")
def health(*, http: str | None, ready: bool) -> None:
    """
    Check over HTTP whether a collector is healthy: exit code 0 if it is, otherwise 4.

    Without --ready it is healthy while it runs and its aggregator answers (/healthz).
    """
    where = http or os.environ.get("COLLECTOR_START_HTTP") or _DEFAULT
    path = "/readyz" if ready else "/healthz"
    is_healthy, reason = _probe(where, path)
    click.echo("healthy" if is_healthy else f"not healthy: {printable(reason)}")
    click.get_current_context().exit(EXIT_OK if is_healthy else EXIT_BELOW)


def _probe(where: str, path: str) -> tuple[bool, str]:
    """Request one path; return whether the answer is positive, and the reason if not."""
    try:
        host, port = host_port(where)
    except ValueError as error:
        raise ConfigError(f"COLLECTOR_START_HTTP {error}") from None
    has_tls = bool(os.environ.get("COLLECTOR_START_TLS_CERT"))
    try:
        try:
            status, body = _ask(_here(host), port, path, has_tls=has_tls)
        except (http.client.HTTPException, ConnectionResetError):
            # TLS may have been asked for on the command line, or in the file.
            status, body = _ask(_here(host), port, path, has_tls=not has_tls)
        answer = json.loads(body)
        reason = answer.get("reason") if isinstance(answer, dict) else None
    except (OSError, http.client.HTTPException) as error:
        return False, f"{where} does not answer: {str(error) or type(error).__name__}"
    except UNREADABLE:
        return False, f"{where}{path} does not answer with JSON: is it a collector?"
    if status == 200 and reason == "":
        return True, ""
    return False, str(reason) if reason else f"{where}{path} answers {status}"


def _ask(host: str, port: int, path: str, *, has_tls: bool) -> tuple[int, bytes]:
    """Request a path; return the status and the body."""
    with contextlib.closing(_connection(host, port, has_tls=has_tls)) as connection:
        answer, body = http_get.get(connection, path, within_s=_ANSWER_S, largest=_LARGEST)
        return answer.status, body


def _connection(host: str, port: int, *, has_tls: bool) -> http.client.HTTPConnection:
    """Connect as it is served; whose certificate that is does not matter on this host."""
    if not has_tls:
        return http.client.HTTPConnection(host, port, timeout=_ANSWER_S)
    import ssl

    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return http.client.HTTPSConnection(host, port, timeout=_ANSWER_S, context=context)


def _here(host: str) -> str:
    """Return loopback for a server that listens on all addresses."""
    return {"0.0.0.0": "127.0.0.1", "*": "127.0.0.1", "::": "::1"}.get(host, host)
