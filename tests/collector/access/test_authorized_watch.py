"""The authorized keys as they are followed: changes, mistakes, half a file, none."""

import time
from pathlib import Path

import pytest

from collector.access import authorized_file, key_files
from collector.access.authorized_watch import AuthorizedFile
from tests.system.running import eventually


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "authorized_keys.toml"
    for name in ("alice", "bob"):
        public = key_files.public_part(key_files.make(name))
        authorized_file.add(path, authorized_file.of_public(public))
    return path


def names(followed: AuthorizedFile) -> list[str]:
    return sorted(followed.current.by_name)


def test_a_change_is_in_force_at_the_second_look(file: Path) -> None:
    followed = AuthorizedFile(file)
    assert not followed.look()
    authorized_file.remove(file, "bob")
    assert not followed.look()
    assert followed.look()
    assert names(followed) == ["alice"]
    assert not followed.look()


def test_half_a_file_shuts_nobody_out(file: Path) -> None:
    """As an editor leaves it for a moment: emptied, then written."""
    followed, whole = AuthorizedFile(file), file.read_text()
    for text in ("", whole[: len(whole) // 2], whole):
        file.write_text(text)
        assert not followed.look()
        assert names(followed) == ["alice", "bob"]
    followed.look()
    assert names(followed) == ["alice", "bob"]
    assert not followed.error


def test_a_mistake_keeps_what_was_in_force(file: Path) -> None:
    followed = AuthorizedFile(file)
    file.write_text("[[key]]\nname = 'x'\n")
    assert not [followed.look() for _ in range(3)].count(True)
    assert "public must be" in followed.error
    assert names(followed) == ["alice", "bob"]


def test_without_the_file_nobody_is_let_in(file: Path) -> None:
    followed = AuthorizedFile(file)
    file.unlink()
    assert [followed.look() for _ in range(3)] == [False, True, False]
    assert names(followed) == []


def test_a_file_that_others_may_change_is_not_followed(file: Path) -> None:
    followed = AuthorizedFile(file)
    file.chmod(0o666)
    assert not [followed.look() for _ in range(2)].count(True)
    assert "type chmod 644" in followed.error
    file.chmod(0o600)
    assert [followed.look() for _ in range(2)] == [False, True]
    assert not followed.error


def test_after_a_while_without_a_look_one_is_enough(file: Path) -> None:
    """A scraper comes each quarter of a minute: its next request must not be let in once more."""
    followed = AuthorizedFile(file)
    authorized_file.remove(file, "bob")
    # It has just come, and may not be whole, however long ago the last look was.
    assert not followed.look(60.0)
    other = AuthorizedFile(file)
    assert names(other) == ["alice"]
    authorized_file.add(
        file, authorized_file.of_public(key_files.public_part(key_files.make("carol")))
    )
    eventually(lambda: time.time() - file.stat().st_ctime > 1.01, within_s=5)
    assert other.look(60.0)
    assert names(other) == ["alice", "carol"]
    file.unlink()
    assert other.look(60.0)
    assert names(other) == []
