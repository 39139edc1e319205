"""Ask a collector over HTTP, as a probe or Prometheus does."""

import http.client
import json
from typing import Any


def get(port: int, path: str, *, within_s: float = 10.0) -> tuple[int, str]:
    """Return status and body; status 0 if there is no server, or no answer in time."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=within_s)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    except (ConnectionError, TimeoutError):
        return 0, ""
    finally:
        connection.close()


def get_json(port: int, path: str, *, within_s: float = 10.0) -> Any:
    """Return the decoded body of an answer that must be a success."""
    status, body = get(port, path, within_s=within_s)
    assert status == 200, f"{path}: {status} {body}"
    return json.loads(body)
