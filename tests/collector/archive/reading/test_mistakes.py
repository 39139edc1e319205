"""An analyst's mistakes, and what happens to folders: one clear sentence each, never silence."""

import datetime
import re
from pathlib import Path
from typing import Any, Final

import pytest

from collector.archive.reading.book_at import book_at
from collector.archive.reading.overview import overview, picture
from collector.archive.reading.tables import HolesWarning, read
from shards.protocol.errors import ConfigError
from tests.collector.archive.written import SYMBOL, sealed
from tests.system.running import run


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mistakes") / "archive"
    sealed(path, 101, 139)
    return path


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"markets": "BTC-USDT"}, "no market 'BTC-USDT' is in this archive: it has INJ-USDT"),
        ({"markets": [SYMBOL, "inj-usdt"]}, "no market 'inj-usdt' is in this archive"),
        ({"markets": []}, "markets: none is named"),
        ({"start": 120, "end": 110}, "start=120 is after end=110"),
        ({"start": 120, "end": "2026-11-28"}, "give two heights or two instants"),
        ({"start": 1.5}, "1.5 is neither a height nor an instant"),
        ({"start": "yesterday"}, "'yesterday' is neither a height nor an instant"),
        ({"decimals": "exactly"}, "decimals='exactly': choose from exact, float, text"),
        ({"holes": "ignore"}, "holes='ignore': choose from warn, raise, allow"),
    ],
)
def test_what_cannot_be_meant_is_refused(root: Path, asked: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        read(root, "trades", **asked)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"start": 5_000, "end": 6_000}, "this archive has heights 101 to 139"),
        ({"start": "2030-01-01"}, "this archive has the days 2026-11-27 to 2026-11-28"),
        ({"end": datetime.date(2020, 1, 1)}, "this archive has the days 2026-11-27 to 2026-11-28"),
    ],
)
def test_a_range_that_is_not_here_is_no_silence(
    root: Path, asked: dict[str, Any], said: str
) -> None:
    with pytest.warns(HolesWarning, match=said):
        assert len(read(root, "trades", **asked)) == 0


@pytest.mark.parametrize("name", ["INJ-USDT", "INJ/USDT", "INJ*", "*"])
def test_a_market_may_be_spelled_as_its_ticker_or_a_glob(root: Path, name: str) -> None:
    assert len(read(root, "trades", markets=name)) == 78


def test_an_instant_is_the_same_in_every_zone(root: Path) -> None:
    eastern = datetime.timezone(datetime.timedelta(hours=-5))
    midnights: list[Any] = [
        "2026-11-28T00:00:00Z",
        "2026-11-28T02:00:00+02:00",
        "2026-11-28",
        datetime.date(2026, 11, 28),
        datetime.datetime(2026, 11, 27, 19, tzinfo=eastern),
    ]
    assert {len(read(root, "trades", start=start)) for start in midnights} == {40}


@pytest.mark.parametrize("far", ["9999-12-31", datetime.date(2300, 1, 1), 10**30])
@pytest.mark.filterwarnings("ignore::collector.archive.reading.tables.HolesWarning")
def test_bounds_may_be_far_away(root: Path, far: Any) -> None:
    assert len(read(root, "trades", end=far)) == 78
    assert len(read(root, "trades", start=far)) == 0
    assert book_at(root, SYMBOL, far).height == 139


@pytest.mark.parametrize("early", ["0001-01-01", datetime.date(1900, 1, 1), -5])
def test_bounds_may_be_long_ago(root: Path, early: Any) -> None:
    assert len(read(root, "trades", start=early, holes="allow")) == 78


def test_a_book_is_of_one_market(root: Path) -> None:
    with pytest.raises(ValueError, match="no glob is taken"):
        book_at(root, "INJ*", 120)
    with pytest.raises(ValueError, match="no market 'BTC-USDT'"):
        book_at(root, "BTC-USDT", 120)


def test_folders_that_are_no_archives_are_named(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for path, said in (
        (tmp_path / "nowhere", "no archive is here"),
        (root / "channel=trades", "no archive is here"),
        (file, "is not a folder"),
    ):
        with pytest.raises(ConfigError, match=f"^{re.escape(str(path))}: {said}"):
            read(path, "trades")


def test_a_part_that_was_removed_by_hand_is_named(tmp_path: Path) -> None:
    path = tmp_path / "archive"
    sealed(path, 101, 139)
    gone = sorted(path.glob("channel=trades/*/*.parquet"))[0]
    gone.unlink()
    with pytest.raises(ConfigError, match=rf"missing: .*{gone.name}.*verify --archive"):
        read(path, "trades")
    (path / "_archive.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"_archive\.json: cannot be read: .*format"):
        read(path, "trades")


def test_parts_without_heights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "archive"
    sealed(path, 101, 119)
    (path / "_archive.json").write_text('{"format": 1, "span": 0}')
    with pytest.raises(ConfigError, match="cannot be read: 0 heights a part"):
        read(path, "trades")


def test_markets_that_are_not_here_are_not_called_unsealed(root: Path) -> None:
    assert "nothing sealed of these markets" in picture(overview(root, ["BTC-USDT"]))[1]


_REPLAY: Final = ("replay", "ROOT", "--publish", "ipc://ROOT.socket")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("record", "--to", "/etc/passwd"), "/etc/passwd: is not a folder"),
        (("record", "--to", "/usr/lib"), "/usr/lib: holds other files"),
        ((*_REPLAY, "--from", "500"), "which has heights 101 to 139"),
        ((*_REPLAY, "--from", "115", "--until", "112"), "ends before it begins"),
        ((*_REPLAY, "--until", "0"), "nothing of the selection is in this"),
        (("archive", "coverage", "/nowhere"), "/nowhere: no archive is here"),
        (("backfill", "--to", "ROOT", "--from", "5", "--network", "devnet"), "names no nodes"),
    ],
)
def test_commands_end_with_one_sentence(root: Path, arguments: tuple[str, ...], said: str) -> None:
    done = run(*(word.replace("ROOT", str(root)) for word in arguments))
    assert done.returncode == 3
    assert said in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
