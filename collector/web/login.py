"""The page's door: a browser brings a token once, and is given a session for it."""

from typing import Final
from urllib.parse import parse_qs

from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from collector.access.tokens import COOKIE, SESSION_S, Tokens, session_of

_FORM_MOST: Final = 4_096
_POLICY_VIOLATION: Final = 1008
_FREE: Final = frozenset(("/login", "/static/style.css", "/static/icon.svg"))
_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <meta name="color-scheme" content="dark light">
  <title>collector</title>
  <link rel="icon" href="static/icon.svg" type="image/svg+xml">
  <link rel="stylesheet" href="static/style.css">
</head>
<body>
<main>
  <h1>collector</h1>
  <form method="post" action="login">
    <p role="alert">{said}</p>
    <p><label>The token of your key file
      <input name="token" type="password" autocomplete="current-password" required autofocus></label>
    <button>Look</button></p>
  </form>
</main>
</body>
</html>
"""


class LoginCheck:
    """Accept requests with a session or a token; send other browsers to the form."""

    def __init__(self, app: ASGIApp, *, tokens: Tokens) -> None:
        self._app = app
        self._tokens = tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or not."""
        if scope["type"] not in ("http", "websocket") or scope["path"] in _FREE:
            await self._app(scope, receive, send)
            return
        key = self._tokens.of_scope(scope)
        if key is not None and self._tokens.may_see_everything(key):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await WebSocketClose(_POLICY_VIOLATION, "log in first")(scope, receive, send)
        elif scope["path"] == "/":
            await RedirectResponse("login", 303)(scope, receive, send)
        else:
            await Response("log in first\n", 401, media_type="text/plain")(scope, receive, send)


def routes(tokens: Tokens) -> list[Route]:
    """Make the routes of the form."""

    async def login(request: Request) -> Response:
        if request.method == "GET":
            return _form("", 200)
        body = b""
        try:
            async for chunk in request.stream():
                body += chunk
                if len(body) > _FORM_MOST:
                    return _form("That is too long for a token.", 413)
        except ClientDisconnect:
            return _form("", 400)
        token = parse_qs(body.decode("latin-1")).get("token", [""])[0]
        key = tokens.of_token(token.strip())
        if key is None:
            return _form("No authorized key has this token.", 403)
        if not tokens.may_see_everything(key):
            said = (
                f"The key of {key.name} may read some topics only, and the page shows all markets."
            )
            return _form(said, 403)
        response = RedirectResponse("./", 303)
        response.set_cookie(
            COOKIE, tokens.begin(key), max_age=int(SESSION_S), httponly=True, samesite="strict",
            secure=request.url.scheme == "https",
        )  # fmt: skip
        return response

    async def logout(request: Request) -> Response:
        tokens.end(session_of(request.scope))
        response = RedirectResponse("login", 303)
        response.delete_cookie(COOKIE)
        return response

    return [
        Route("/login", login, methods=["GET", "POST"]),
        Route("/logout", logout, methods=["POST"]),
    ]


def _form(said: str, status: int) -> Response:
    page = _PAGE.replace("{said}", said)
    return HTMLResponse(page, status, headers={"cache-control": "no-store"})
