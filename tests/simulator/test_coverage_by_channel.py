"""Coverage is kept by channel: heights that were recorded without a channel count as missing in it."""

import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from collector.archive.reading.book_at import book_at
from collector.archive.reading.overview import overview
from collector.archive.reading.tables import HolesError, read
from collector.archive.storage import manifest
from shards.protocol.text import symbol_of
from tests.simulator.client import Simulator, simulator
from tests.system.recorders import ended, record, sealed_through, status_of, stop
from tests.system.running import collector, eventually, free_port_pair, run

SPAN = 10
Backfill = Callable[..., str]
_KEYS = {"book": "sequence", "trades": "trade_id"}
_PACE = ("--touched", "all", "--history", "100000")


@pytest.fixture(scope="module")
def exchange() -> Iterator[tuple[Simulator, int]]:
    """Two markets that change in each block, and the first height of two parts that are over."""
    with simulator("--markets", "2", "--block-time", "0.02", *_PACE) as venue:
        first = (venue.head() // SPAN + 1) * SPAN
        venue.await_height(first + 2 * SPAN)
        yield venue, first


@pytest.fixture
def backfill(exchange: tuple[Simulator, int], tmp_path: Path) -> Backfill:
    """Return what fetches heights of the two parts, by default the first part."""
    venue, first = exchange
    config = str(venue.config(tmp_path))

    def once(*options: str, begin: int = 0, until: int = SPAN - 1, to: str = "archive") -> str:
        given = ("--to", str(tmp_path / to), "--config", config, "--per-s", "1000")
        heights = ("--from", str(first + begin), "--until", str(first + until))
        done = run("backfill", *given, *heights, "--part-heights", str(SPAN), *options)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return once


def _symbol(market: dict[str, Any]) -> str:
    return symbol_of(market["ticker"])


def _true(venue: Simulator, channel: str, first: int, last: int) -> list[tuple[str, object]]:
    """Return the facts of a channel in some blocks, by the exchange's own word."""
    blocks = [venue.block(height) for height in range(first, last + 1)]
    if channel == "book":
        return sorted((u.market_id, u.sequence) for b in blocks for u in b.updates)
    return sorted((m, t.trade_id) for b in blocks for m, t in b.trades)


def _rows(root: Path, channel: str, first: int, last: int) -> list[tuple[str, object]]:
    """Return the same of an archive, whole."""
    table = read(root, channel, markets="*-*", start=first, end=last, holes="raise").arrow
    columns = (table["market_id"].to_pylist(), table[_KEYS[channel]].to_pylist())
    return sorted(zip(*columns, strict=True))


def _is_true(venue: Simulator, root: Path, first: int, last: int) -> bool:
    return all(
        _rows(root, channel, first, last) == _true(venue, channel, first, last) != []
        for channel in _KEYS
    )


def _digests(root: Path) -> dict[tuple[str, int], str]:
    files = manifest.current(manifest.read(root)).values()
    return {(f.channel, f.first): f.facts_sha256 for f in files if f.facts_sha256}


def _books(venue: Simulator, root: Path, height: int, *symbols: str) -> bool:
    """Say whether the markets' books at a height are the exchange's."""
    for market in venue.markets:
        if not symbols or _symbol(market) in symbols:
            found, true = (
                book_at(root, _symbol(market), height),
                venue.book(market["market_id"], height),
            )
            if [found.sequence, _levels(found.bids)] != [true.sequence, _levels(true.bids)]:
                return False
    return True


def _levels(levels: Any) -> list[tuple[Decimal, Decimal]]:
    return sorted((Decimal(price), Decimal(quantity)) for price, quantity in levels)


@pytest.mark.parametrize("channels", [("trades", "book"), ("book", "trades")])
def test_channels_fetched_one_after_the_other_are_those_fetched_at_once(
    exchange: tuple[Simulator, int], backfill: Backfill, tmp_path: Path, channels: tuple[str, str]
) -> None:
    venue, first = exchange
    root, last = tmp_path / "archive", first + SPAN - 1
    backfill("--channel", channels[0])
    with pytest.raises(HolesError, match=f"heights {first}-{last} "):
        read(root, channels[1], holes="raise")
    assert f"{SPAN} fetched for 1 parts" in backfill("--channel", channels[1])
    assert _is_true(venue, root, first, last)
    assert _books(venue, root, first + 4)
    for again in (channels[:1], channels[1:], channels):
        options = [text for name in again for text in ("--channel", name)]
        assert "0 fetched for 0 parts" in backfill(*options)
    backfill(to="at-once")
    assert run("archive", "compact", str(root)).returncode == 0
    assert _digests(root) == _digests(tmp_path / "at-once")
    assert _books(venue, root, last)
    assert "0 fetched for 0 parts" in backfill()
    done = run("verify", "--archive", str(root), "--rpc", venue.rpc)
    assert done.returncode == 0, done.stdout
    assert "without" not in done.stdout


def test_what_was_never_fetched_is_named(
    exchange: tuple[Simulator, int], backfill: Backfill, tmp_path: Path
) -> None:
    venue, first = exchange
    root, last = tmp_path / "archive", first + SPAN - 1
    one = _symbol(venue.markets[0])
    backfill("--channel", "trades")
    whole = overview(root)
    assert (whole.channels, whole.lacking) == (["trades"], {})
    assert all(day.is_whole for day in whole.days)
    backfill(begin=SPAN, until=2 * SPAN - 1)
    for channel, market in (
        ("book", one),
        ("keyframe", one),
        ("blocks", "chain"),
        ("oracle", "chain"),
    ):
        lacking = read(root, channel, start=first, end=last, holes="allow").holes[market]
        assert lacking == [(first, last)]
    with pytest.raises(HolesError):
        book_at(root, one, first + 3)
    assert _books(venue, root, last + 5)
    found = overview(root)
    assert found.channels == ["book", "trades"]
    assert found.lacking == {"book": {_symbol(m): [(first, last)] for m in venue.markets}}
    assert not any(day.is_whole for day in found.days)
    said = run("archive", "coverage", str(root)).stdout
    assert "channels: book, trades" in said
    assert f"  book of {one}: {first}-{last}" in said
    assert json.loads(run("archive", "coverage", "--json", str(root)).stdout)["lacking"]
    done = run("verify", "--archive", str(root), "--rpc", venue.rpc)
    assert done.returncode == 0, done.stdout
    assert f"without {2 * SPAN:>9,} heights named by the archive that have no book" in done.stdout


def test_each_market_has_its_own_channels(
    exchange: tuple[Simulator, int], backfill: Backfill, tmp_path: Path
) -> None:
    venue, first = exchange
    root, (one, other) = tmp_path / "archive", map(_symbol, venue.markets)
    backfill("--channel", "trades", "--market", one)
    backfill("--channel", "book", "--market", other, until=3)
    assert overview(root).lacking == {
        "book": {one: [(first, first + SPAN - 1)]},
        "trades": {other: [(first, first + 3)]},
    }
    assert _books(venue, root, first + 2, other)
    assert f"{SPAN} fetched for 1 parts" in backfill()
    assert _is_true(venue, root, first, first + SPAN - 1)
    assert _books(venue, root, first + 8)
    assert not overview(root).lacking


def test_a_channel_without_any_fact_is_fetched_once(backfill: Backfill, tmp_path: Path) -> None:
    backfill()
    assert f"{SPAN} fetched for 1 parts" in backfill("--channel", "orders")
    assert "0 fetched for 0 parts" in backfill("--channel", "orders")


def test_an_older_archive_means_what_it_meant_and_can_be_completed(
    exchange: tuple[Simulator, int], backfill: Backfill, tmp_path: Path
) -> None:
    venue, first = exchange
    root, last = tmp_path / "archive", first + SPAN - 1
    backfill("--channel", "trades")
    path = root / "_manifest.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(_older(line)) + "\n" for line in lines))
    assert read(root, "book", holes="raise").arrow.num_rows == 0
    assert run("archive", "coverage", str(root)).stdout.count("without") == 0
    assert "0 fetched for 0 parts" in backfill("--channel", "trades")
    assert f"{SPAN} fetched for 1 parts" in backfill("--channel", "book")
    assert _is_true(venue, root, first, last)
    assert "0 fetched for 0 parts" in backfill()


def _older(line: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in line.items() if name != "channels"}


def _recorded(venue: Simulator, root: Path, publish: str, *channels: str, parts: int = 2) -> None:
    """Record some channels until more parts are sealed."""
    options = [text for name in channels for text in ("--channel", name)]
    with ended(record(root, publish, span=SPAN, options=options)) as recorder:
        eventually(lambda: status_of(root).get("state") == "recording", within_s=60)
        _sealed_beyond(root, venue.head() + parts * SPAN)
        stop(recorder)


def _holes(root: Path, channel: str, last: int) -> list[tuple[int, int]]:
    """Return what no market has of a channel; the same is missing of all."""
    holes = read(root, channel, markets="*-*", end=last, holes="allow").holes
    return next(iter(holes.values()), [])


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Simulator]:
    """An exchange with four blocks a second: a part is sealed sooner than the next one is complete."""
    with simulator("--markets", "2", "--block-time", "0.25", *_PACE) as venue:
        yield venue


def _completed(venue: Simulator, root: Path, config: str, last: int) -> None:
    """Fetch what was recorded without a channel, and compare all with the exchange."""
    first = min(part.first for part in overview(root).days)
    heights = ("--from", str(first), "--until", str(last), "--per-s", "1000")
    done = run("backfill", "--to", str(root), "--config", config, *heights)
    assert done.returncode == 0, done.stderr
    assert " 0 fetched" not in done.stdout
    assert _is_true(venue, root, first, last)
    assert run("verify", "--archive", str(root), "--rpc", venue.rpc).returncode == 0


def test_a_recorder_that_begins_again_with_more_channels_or_fewer(
    slow: Simulator, tmp_path: Path
) -> None:
    root, config = tmp_path / "archive", str(slow.config(tmp_path))
    with collector(tmp_path, "--config", config) as running:
        running.await_live()
        _recorded(slow, root, running.publish, "trades")
        alone = sealed_through(root)
        _recorded(slow, root, running.publish)
        both = sealed_through(root)
        _recorded(slow, root, running.publish, "trades")
        last = sealed_through(root)
    assert not _holes(root, "trades", last)
    (begin, end), (later, newest) = _holes(root, "book", last)
    assert begin == overview(root).days[0].first
    assert alone <= end < both < later <= newest == last
    named = overview(root).lacking["book"]
    assert named == read(root, "book", markets="*-*", end=last, holes="allow").holes
    assert _rows(root, "book", end + 1, later - 1) == _true(slow, "book", end + 1, later - 1)
    assert run("verify", "--archive", str(root), "--rpc", slow.rpc).returncode == 0
    _completed(slow, root, config, last)


def test_a_collector_that_begins_again_with_more_channels_or_fewer(
    slow: Simulator, tmp_path: Path
) -> None:
    root, config = tmp_path / "archive", str(slow.config(tmp_path))
    publish, through = f"tcp://127.0.0.1:{free_port_pair()}", []
    with ended(record(root, publish, span=SPAN)) as recorder:
        for channels in (("book",), ("book", "trades"), ("book",)):
            given = [text for name in channels for text in ("--channel", name)]
            with collector(tmp_path, "--config", config, *given, publish=publish) as running:
                running.await_live()
                eventually(lambda: sealed_through(root) > 0, within_s=60)
                through.append(_sealed_beyond(root, slow.head() + 4 * SPAN))
        stop(recorder)
    last = sealed_through(root)
    assert not _holes(root, "book", last)
    (_, end), (later, newest) = _holes(root, "trades", last)
    assert through[0] <= end < through[1] < later <= newest == last
    assert _rows(root, "trades", end + 1, later - 1) == _true(slow, "trades", end + 1, later - 1)
    _completed(slow, root, config, last)


def _sealed_beyond(root: Path, height: int) -> int:
    """Wait until an archive is sealed through a height; return how far it is."""
    eventually(lambda: sealed_through(root) >= height, within_s=60)
    return sealed_through(root)
