"""The ASGI application: every route, and how errors become responses."""

from collections import Counter
from pathlib import Path
from typing import Final

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

from collector.access.tokens import Bearer, Tokens
from collector.http import probes, scraping
from collector.http.view import View
from collector.settings.parts import ServingConfig

_FREE: Final = frozenset(("/healthz", "/readyz"))
"""For those who keep us alive, or route to us: they say how we are, and nothing of what we have."""


def build(view: View, config: ServingConfig, closed: Counter[str]) -> Starlette:
    """
    Assemble the application from the routes of each part.

    Args:
        closed: Our connections that were closed at a bound, by reason.

    Raises:
        ConfigError: If tokens are asked for, and the authorized keys cannot be read.

    """
    door = []
    if config.tls.authorized:
        tokens = Tokens(Path(config.tls.authorized))
        door = [Middleware(Bearer, tokens=tokens, free=_FREE)]
    return Starlette(
        routes=[
            *probes.routes(view, config),
            *scraping.routes(view, config, closed),
        ],
        middleware=door,
        exception_handlers={TimeoutError: _away, ValueError: _refused},
    )


async def _away(request: Request, error: Exception) -> Response:
    return probes.json_response({"error": str(error)}, 503)


async def _refused(request: Request, error: Exception) -> Response:
    return probes.json_response({"error": str(error)}, 400)
