"""Folders on file systems that refuse something: no locks, no right to read or to write."""

import contextlib
import errno
import fcntl
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.archive.storage import files
from collector.cli.main import cli
from collector.control.runtime_folder import runtime_folder
from collector.control.state_folder import open_state
from collector.verify import archived
from shards.net.token_bucket import TokenBucket
from shards.protocol.errors import ConfigError
from shards.runtime.exit_codes import EXIT_CONFIG
from tests.collector.archive import written

AS_NOBODY = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: object, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that other users may enter, unlike pytest's."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


@contextlib.contextmanager
def nobody() -> Iterator[None]:
    """Be a user without rights for the length of the block."""
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def state(folder: Path, *, fallback: Path, is_asked: bool = True) -> Path:
    asked = str(folder) if is_asked else None
    with open_state(asked, "local", "tcp://*:1", tells_blocks=True, fallback=fallback) as found:
        return found


@pytest.mark.usefixtures("no_locks")
def test_an_archive_is_not_written_where_there_are_no_locks(tmp_path: Path) -> None:
    files.open_archive(tmp_path / "kept", create=True)
    for lock in (files.writing, files.sealing):
        with (
            pytest.raises(ConfigError, match=r"has no locks .No locks available."),
            lock(tmp_path / "kept"),
        ):
            pass


@pytest.mark.usefixtures("no_locks")
def test_a_state_without_locks_is_refused_only_where_it_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"--state: cannot keep a state .*No locks available"):
        state(tmp_path / "state", fallback=tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    assert state(tmp_path, fallback=tmp_path / "run", is_asked=False) == tmp_path / "run"


@pytest.mark.usefixtures("no_locks")
def test_what_only_helps_works_without_locks(tmp_path: Path) -> None:
    with runtime_folder() as folder:
        assert folder.is_dir()
    bucket = TokenBucket(tmp_path / "budget", 10.0)
    assert bucket.take(1_000.0) is not None
    bucket.close()


@AS_NOBODY
@pytest.mark.parametrize("name", ["lock", "aggregator.lock", "identity", "ledger"])
def test_a_state_of_another_user_is_not_replaced(place: Path, name: str) -> None:
    folder = place / "state"
    state(folder, fallback=place)
    folder.chmod(0o777)
    (folder / "ledger").write_bytes(b"ours")
    for path in folder.iterdir():
        path.chmod(0o666)
    (folder / name).chmod(0o600)
    with nobody(), pytest.raises(ConfigError, match=r"cannot keep a state in .*Permission denied"):
        state(folder, fallback=place)
    assert (folder / "ledger").read_bytes() == b"ours"


@AS_NOBODY
def test_an_archive_that_may_not_be_read_is_refused_in_a_sentence(place: Path) -> None:
    root = place / "kept"
    files.open_archive(root, create=True)
    root.chmod(0o700)
    with nobody():
        for read in (files.open_archive, archived.Archive):
            with pytest.raises(ConfigError, match=r"kept: cannot be read: Permission denied$"):
                read(root)


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("archive coverage {}", "_manifest.jsonl"),
        ("archive coverage {}", "_journal"),
        ("archive sql {} x", "_manifest.jsonl"),
        ("archive sql {} x", "channel=book"),
        ("archive prune {} --max-size 1MB --yes", "_manifest.jsonl"),
        ("archive compact {}", "_manifest.jsonl"),
        ("replay {0} --publish ipc://{0}.socket", "_manifest.jsonl"),
        ("replay {0} --publish ipc://{0}.socket", "_journal"),
        ("verify --archive {}", "_manifest.jsonl"),
        ("record --to {}", "_manifest.jsonl"),
        ("record --to {}", "_journal"),
    ],
)
def test_what_cannot_be_read_in_an_archive_is_named_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, name: str
) -> None:
    root, put = tmp_path / "kept", tmp_path / name
    written.sealed(root, 10, 29)
    # A folder where a file should be, or the other way round.
    (root / name).rename(put)
    if put.is_dir():
        (root / name).write_text("")
    else:
        (root / name).mkdir()
    with pytest.raises(SystemExit) as ended:
        cli(command.format(root).split(), prog_name="collector")
    assert ended.value.code == EXIT_CONFIG
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith(f"collector {re.split(r' --| {', command)[0]}: ")
    assert str(root / name) in line


def test_an_archive_behind_a_loop_of_links_is_refused_in_a_sentence(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for read in (files.open_archive, archived.Archive):
        with pytest.raises(ConfigError, match=r"loop: cannot be read: Too many levels"):
            read(loop)
