"""The page in a real browser, over a real collector, whatever happens to its processes."""

import os
import signal
from collections.abc import Iterator

import pytest

from tests.collector.web.browser import DESKTOP, PHONE, Browser, chromium
from tests.simulator import faults
from tests.simulator.client import Simulator, simulator
from tests.system.running import Running, collector, eventually, free_port_pair

_NEXT_UPDATE = "Number(document.body.dataset.updates) > {}"
_ALL_LIVE = (
    "document.querySelectorAll('#grid a').length > 0 && "
    "[...document.querySelectorAll('#grid a')].every(a => a.dataset.state === 'live')"
)
# What passes between two looks is kept: the states that any cell has been in.
_KEEP_STATES = """
    window.states = new Set();
    const keep = (cell) => window.states.add(cell.dataset.state);
    new MutationObserver(changes => changes.forEach(({target}) => keep(target)))
      .observe(document.getElementById('grid'), {subtree: true, attributeFilter: ['data-state']});
"""


@pytest.fixture(scope="module")
def venue() -> Iterator[Simulator]:
    """A busy exchange."""
    options = ("--markets", "12", "--block-time", "0.25", "--touched", "0.9", "--paused", "0")
    with simulator(*options) as running:
        yield running


@pytest.fixture(scope="module")
def address() -> str:
    """Where the page is to be."""
    return f"127.0.0.1:{free_port_pair()}"


@pytest.fixture(scope="module")
def running(
    venue: Simulator, address: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """A collector of it with its page, everything live."""
    folder = tmp_path_factory.mktemp("collector")
    # What a test stops is not to be replaced before the page has shown it.
    config = str(venue.config(folder, extra="[supervision]\nstall_after_s = 120\n"))
    options = ("--shards", "2", "--config", config, "--web", address)
    with collector(folder, *options) as started:
        started.await_live()
        yield started


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests."""
    with chromium(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
def page(window: Browser, running: Running, address: str) -> Browser:
    """The overview, showing every market live."""
    window.resize(DESKTOP)
    window.open("about:blank")
    window.open(f"http://{address}/")
    window.until(_ALL_LIVE)
    return window


def updates(page: Browser) -> int:
    return int(page.run("return document.body.dataset.updates ?? 0"))


def await_update(page: Browser) -> None:
    """Wait for the update after the one that is shown."""
    page.until(_NEXT_UPDATE.format(updates(page) + 1))


def test_the_page_is_announced_and_in_the_status(running: Running, address: str) -> None:
    assert f"in a browser: http://{address}/" in running.log
    assert running.status()["web"] == f"http://{address}/"
    # Markets may be live before the coordinator has told of every process.
    eventually(
        lambda: "web" in {process["name"] for process in running.status()["processes"]},
        within_s=30,
        what="the page's process in the status",
    )


def test_it_shows_every_market_and_goes_on(page: Browser, running: Running) -> None:
    assert set(page.texts("#grid .name")) == {row["symbol"] for row in running.markets()}
    eventually(lambda: set(page.texts("#grid .glyph")) == {"●"}, within_s=30)
    await_update(page)
    eventually(lambda: "100 %" in page.texts("#figures dd"), within_s=30)
    names = {"aggregator", "shard 0", "shard 1", "web"}
    eventually(lambda: names <= set(page.texts("#processes tbody th")), within_s=30)
    page.until("document.querySelectorAll('#charts canvas').length === 5")
    page.until("document.querySelectorAll('#hops tbody tr').length === 6")
    page.until("document.title.startsWith('● 12/12 live')")


def test_nothing_comes_from_elsewhere_and_the_console_is_silent(page: Browser) -> None:
    await_update(page)
    hosts = page.run(
        "return [...new Set(performance.getEntriesByType('resource')"
        ".map(({name}) => new URL(name).host))]"
    )
    assert hosts == [page.run("return location.host")]
    assert page.complaints() == []


def test_a_market_opens_by_keyboard_and_shows_its_book_live(page: Browser) -> None:
    symbol = page.run(
        "const first = document.querySelector('#grid a'); first.focus();"
        "first.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight', bubbles: true}));"
        "const second = document.activeElement; second.click(); return second.textContent.slice(1)"
    )
    page.until("document.activeElement.id === 'h-market'")
    assert page.texts("#h-market") == [symbol]
    page.until("Number(document.getElementById('depth').dataset.levels) > 1")
    page.until("document.querySelector('#depth canvas') !== null")
    page.until("document.querySelectorAll('#trades tbody tr').length > 0")
    # The market's row is asked for by itself, once a second.
    page.until("document.querySelectorAll('#market-facts dt').length > 0")
    names = page.texts("#market-facts dt")
    assert {"height", "sequence", "age of the book", "last trade"} <= set(names)
    place = names.index("sequence")
    value = f"document.querySelectorAll('#market-facts > div')[{place}].children[1].textContent"
    before = page.run(f"return {value}")
    page.until(f"{value} !== '{before}'")
    bid, ask = page.run(
        "const cells = document.querySelector('#levels tbody tr').cells;"
        "return [cells[1].textContent, cells[2].textContent]"
    )
    assert float(bid.replace(",", "")) < float(ask.replace(",", ""))
    page.run("document.querySelector('.back').click()")
    page.until("document.getElementById('overview').checkVisibility()")
    await_update(page)


def test_filters_narrow_the_grid(page: Browser) -> None:
    everything = page.texts("#grid .name")
    page.run(
        "const filter = document.getElementById('filter'); filter.value = arguments[0];"
        "filter.dispatchEvent(new Event('input'))",
        everything[0].lower(),
    )
    assert page.texts("#grid .name") == [everything[0]]


def test_the_switch_of_themes_outlives_the_page(page: Browser, address: str) -> None:
    def colour() -> str:
        return str(page.run("return getComputedStyle(document.body).backgroundColor"))

    light = colour()
    page.run("document.getElementById('theme').click()")
    dark = colour()
    assert dark != light
    page.open(f"http://{address}/")
    assert colour() == dark
    page.run("localStorage.clear()")
    page.open(f"http://{address}/")
    assert colour() == light
    page.resize(DESKTOP, theme="dark")
    assert colour() == dark


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_nothing_sticks_out_of_the_screen(page: Browser, size: tuple[int, int]) -> None:
    page.resize(size)
    wide = "document.documentElement.scrollWidth <= window.innerWidth"
    page.until(wide)
    page.run("document.querySelector('#grid a').click()")
    page.until("document.querySelector('#depth canvas') !== null")
    page.until(wide)


def test_a_killed_shard_shows_with_its_gaps_and_marks(page: Browser, running: Running) -> None:
    page.run(_KEEP_STATES)
    # A killed one may be back before the page looks again.
    shard = running.pid("shard 1")
    os.kill(shard, signal.SIGSTOP)
    page.until("window.states.has('stale')")
    os.kill(shard, signal.SIGKILL)
    page.until("document.querySelector('#events [data-kind=restart]') !== null")
    page.until("document.querySelector('#events [data-kind=gap]') !== null")
    restarts = "[...document.querySelectorAll('#processes tbody tr')]"
    page.until(
        f"{restarts}.some(r => r.cells[0].textContent === 'shard 1' && r.cells[4].textContent > 0)"
    )
    page.until(_ALL_LIVE)


def test_a_cut_shows_while_it_lasts(page: Browser, running: Running, venue: Simulator) -> None:
    venue.inject(faults.Mute(sticky=True))
    page.until("document.querySelector('#grid a[data-state=stale]') !== null")
    page.until("document.title.startsWith('▲')")
    page.until("document.querySelector('#states [data-state=stale]') !== null")
    venue.heal()
    page.until(_ALL_LIVE, within_s=60)


def test_it_outlives_the_aggregator(page: Browser, running: Running) -> None:
    epoch, pid = running.status()["publisher_epoch"], running.pid("aggregator")
    os.kill(pid, signal.SIGKILL)
    eventually(
        lambda: running.peek().get("publisher_epoch", epoch) != epoch,
        within_s=30,
        what="another aggregator",
    )
    page.until(_ALL_LIVE)
    await_update(page)
    page.until("[...document.querySelectorAll('#events li')].some("
               "e => e.textContent.includes('aggregator restarted'))")  # fmt: skip
    page.until("document.body.dataset.link === 'live'")
    page.until("document.getElementById('banner').hidden")


def test_a_collector_that_does_not_answer_is_said_and_so_is_its_return(
    page: Browser, running: Running
) -> None:
    pid = running.pid("aggregator")
    os.kill(pid, signal.SIGSTOP)
    try:
        page.until("!document.getElementById('banner').hidden")
        assert "does not answer since" in page.texts("#banner")[0]
    finally:
        os.kill(pid, signal.SIGCONT)
    page.until("document.getElementById('banner').hidden")
    page.until(_ALL_LIVE)


def test_a_server_that_is_gone_is_said_and_found_again(page: Browser, running: Running) -> None:
    # What the page says is kept: it may have found the server again before the next look.
    page.run(
        "window.said = '';"
        "new MutationObserver(() => window.said += document.getElementById('banner').textContent)"
        ".observe(document.getElementById('banner'), {childList: true, subtree: true})"
    )
    os.kill(running.pid("web"), signal.SIGKILL)
    page.until("window.said.includes('lost its server') || document.body.dataset.link === 'lost'")
    page.until("document.body.dataset.link === 'live'")
    await_update(page)
    page.until(_ALL_LIVE)
