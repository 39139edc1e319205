"""Relative paths in a configuration file belong to its folder, wherever the collector is started."""

import signal
from pathlib import Path

import pytest

from collector.archive.storage.files import open_archive
from collector.settings import config_file
from shards.protocol.errors import ConfigError
from tests.simulator.client import simulator
from tests.system.running import collector, eventually

_FILE = 'record = "archive"\nsummary = "summary.json"\n'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of the file; the working folder, beside it, is another one."""
    for name in ("here", "etc"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "etc"


@pytest.mark.parametrize("is_there", [False, True])
def test_a_run_writes_beside_the_file_or_where_its_archive_is(folder: Path, is_there: bool) -> None:
    here = folder.parent / "here"
    if is_there:
        open_archive(here / "archive", create=True)
    with simulator("--markets", "1", "--block-time", "0.1") as venue:
        config = venue.config(folder)
        config.write_text(_FILE + config.read_text())
        options = ("--config", str(config), "--shards", "1")
        with collector(folder, *options, cwd=here) as running:
            running.await_live()
            root = (here if is_there else folder) / "archive"
            told = eventually(lambda: running.peek().get("recorder", {}), within_s=30)
            assert told["archive"] == str(root)
            eventually(lambda: (root / "_status.json").exists(), within_s=30)
            assert running.stop(signal.SIGTERM) == 0
    assert f"summary is {folder / 'summary.json'}: a relative path belongs to" in running.log
    assert (f"record is {root} because that is there" in running.log) == is_there
    assert (folder / "summary.json").exists()
    assert (folder / "archive").exists() != is_there
    assert {path.name for path in here.iterdir()} == ({"archive"} if is_there else set())


def test_where_both_are_there_it_has_to_be_written_out(folder: Path) -> None:
    for place in (folder, folder.parent / "here"):
        (place / "archive").mkdir()
    with pytest.raises(ConfigError, match=r"record is ambiguous: .*/here/archive: write it out"):
        config_file.parse(str(folder / "f.toml"), b'record = "archive"')


@pytest.mark.parametrize("text", ["/somewhere/else", "-", ""])
def test_what_is_not_relative_stays(folder: Path, text: str) -> None:
    found = config_file.parse(str(folder / "f.toml"), f'summary = "{text}"'.encode())
    assert (found.options["summary"], found.notes) == (text, {})


def test_a_file_of_the_working_folder_means_what_it_meant(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    found = config_file.parse("f.toml", _FILE.encode())
    assert (found.options["record"], found.notes) == ("archive", {})
