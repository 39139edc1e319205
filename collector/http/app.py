"""The application: every route, and what errors become."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from collector.http import probes, scraping
from collector.http.view import View
from collector.settings.parts import ServingConfig


def build(view: View, config: ServingConfig) -> Starlette:
    """Put the application together; each part makes its routes of the view and the config."""
    return Starlette(
        routes=[
            *probes.routes(view, config),
            *scraping.routes(view, config),
        ],
        exception_handlers={TimeoutError: _away, ValueError: _refused},
    )


async def _away(request: Request, error: Exception) -> Response:
    return probes.json_response({"error": str(error)}, 503)


async def _refused(request: Request, error: Exception) -> Response:
    return probes.json_response({"error": str(error)}, 400)
