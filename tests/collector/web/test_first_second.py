"""The page before the first answer is here, and a tile while it changes."""

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import collector.web
from tests.collector.web.browser import DESKTOP, PHONE, Browser, chromium

STATIC = Path(collector.web.__file__).parent / "static"
_OVERLAPS = """
    const boxes = [...document.querySelectorAll('h2, figcaption, .plot, #grid, #processes, #hops')]
      .filter(e => e.checkVisibility()).map(e => [e.textContent || e.id, e.getBoundingClientRect()]);
    return boxes.flatMap(([one, a], i) => boxes.slice(i + 1)
      .filter(([, b]) => a.bottom > b.top + 1 && b.bottom > a.top + 1
                      && a.right > b.left + 1 && b.right > a.left + 1)
      .map(([other]) => `${one} | ${other}`));
"""


class _Files(http.server.SimpleHTTPRequestHandler):
    """The page's files, and nobody who answers it."""

    def translate_path(self, path: str) -> str:
        return str(STATIC / path.partition("?")[0].lstrip("/").removeprefix("static/"))

    def do_GET(self) -> None:
        if self.path == "/":
            self.path = "/index.html"
        super().do_GET()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    handler = functools.partial(_Files, directory=str(STATIC))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with chromium(tmp_path_factory.mktemp("chromium")) as browser:
            browser.open(f"http://127.0.0.1:{server.server_port}/")
            yield browser
        server.shutdown()


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_everything_has_its_place_before_the_first_answer(
    page: Browser, size: tuple[int, int]
) -> None:
    page.resize(size)
    page.until("document.querySelectorAll('figcaption').length > 3")
    assert page.run(_OVERLAPS) == []
    heights = page.run("return [...document.querySelectorAll('.plot')].map(e => e.clientHeight)")
    assert set(heights) == {112}


def test_a_tile_changes_its_colours_at_once(page: Browser) -> None:
    """On the way from one colour to the other its text would be as dark as itself."""
    page.run(
        "document.getElementById('grid').innerHTML ="
        "'<li><a data-state=live data-activity=0>INJ</a></li>'"
    )
    duration = page.run(
        "return getComputedStyle(document.querySelector('#grid a')).transitionDuration"
    )
    assert duration == "0s"
