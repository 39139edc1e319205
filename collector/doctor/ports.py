"""Check the addresses to listen on: free, used by a collector, or used by another program."""

from collections.abc import Callable, Iterator

from collector.aggregator.endpoints import check_free
from collector.client.requests import Refused, RequestClient
from collector.doctor.findings import Finding, bad, fine, note
from collector.settings.parts import connectable, requests_endpoint
from shards.protocol.errors import ConfigError

_ANSWER_S = 1.0


def publish(endpoints: tuple[str, ...]) -> Iterator[Finding]:
    """Check the publish endpoints and their request endpoints."""
    for endpoint in endpoints:
        try:
            check_free((endpoint,))
        except ConfigError as error:
            if _collector_at(endpoint):
                yield note("ports", f"{endpoint}: a collector runs there; another needs --publish")
            else:
                yield bad("ports", str(error))
        else:
            yield fine("ports", f"{endpoint} and {requests_endpoint(endpoint)} are free")


def listener(address: str, check: Callable[[str], None]) -> Finding:
    """Check an HTTP address; ``check`` raises ConfigError if it cannot be used."""
    try:
        check(address)
    except ConfigError as error:
        return bad("ports", str(error))
    return fine("ports", f"{address} is free")


def _collector_at(endpoint: str) -> bool:
    with RequestClient.of(connectable(endpoint)) as client:
        try:
            client.ask("status", within_s=_ANSWER_S)
        except TimeoutError:
            return False
        except Refused:
            return True
        return True
