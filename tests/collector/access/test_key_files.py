"""Key files and the authorized keys: made, read, changed; what is wrong is one sentence."""

import os
import tempfile
from pathlib import Path

import pytest

from collector.access import authorized_file, key_files
from collector.access.key_files import Keys
from shards.protocol.errors import ConfigError
from tests.system.running import run


@pytest.fixture
def bob(tmp_path: Path) -> Path:
    """A key file."""
    private, _ = key_files.write(key_files.make("bob"), tmp_path)
    return private


def test_what_is_written_is_read(tmp_path: Path, bob: Path) -> None:
    keys = Keys.read(bob)
    assert bob.stat().st_mode & 0o777 == 0o600
    assert key_files.public_of(str(tmp_path / "bob.pub")) == key_files.public_part(keys)
    assert key_files.public_of(key_files.public_part(keys).line).public == keys.public
    assert key_files.public_of(keys.public).public == keys.public
    assert keys.secret not in repr(keys)
    assert keys.token not in repr(keys)
    assert keys.secret not in (tmp_path / "bob.pub").read_text()


def test_a_client_needs_the_servers_key(bob: Path) -> None:
    with pytest.raises(ConfigError, match="names no collector: add a line server ="):
        Keys.read(bob).of_client()
    server = key_files.make("server").public
    assert Keys.read(bob, server=server).of_client().server == server


def test_a_key_is_never_replaced(bob: Path) -> None:
    before = bob.read_text()
    with pytest.raises(ConfigError, match="is there already"):
        key_files.write(key_files.make("bob"), bob.parent)
    assert bob.read_text() == before


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o620])
def test_a_secret_that_others_may_read_is_refused_with_the_cure(bob: Path, mode: int) -> None:
    bob.chmod(mode)
    with pytest.raises(ConfigError, match=rf"mode 0{mode:o}\): type chmod 600 {bob}$"):
        Keys.read(bob)
    os.chmod(bob, 0o600)
    Keys.read(bob)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_mounted_secret_may_be_read_by_its_group(bob: Path) -> None:
    os.chown(bob, 65534, -1)
    bob.chmod(0o440)
    Keys.read(bob)
    bob.chmod(0o444)
    with pytest.raises(ConfigError, match="others may read"):
        Keys.read(bob)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda text: text.replace("secret", "sekret"), "is no key file"),
        (lambda text: "= = =", "is no key file: it is not TOML"),
        (lambda text: text.replace("public = '", "public = 'x"), "public must be 40 characters"),
        (lambda text: "\0" * 10, "is no key file: "),
    ],
)
def test_what_is_no_key_file_is_said_without_its_secret(bob, change, expected) -> None:
    secret = Keys.read(bob).secret
    bob.write_text(change(bob.read_text()))
    with pytest.raises(ConfigError, match=expected) as found:
        Keys.read(bob)
    assert secret not in str(found.value)


def test_a_pair_that_does_not_belong_together_is_refused(bob: Path) -> None:
    keys = Keys.read(bob)
    bob.write_text(bob.read_text().replace(keys.public, key_files.make("x").public))
    with pytest.raises(ConfigError, match="do not belong together"):
        Keys.read(bob)


# -- authorized keys -----------------------------------------------------------------------

# Always the same: it is part of the tests' names.
_PUBLIC = "OB7#X3s[8:@3xw@i)kFMl:biBdbR@)/9>9/Yw4Tp"
_GOOD = f"[[key]]\nname = 'bob'\npublic = '{_PUBLIC}'\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[[kee]]", "there is no table 'kee'"),
        ("[key]", "with two brackets"),
        ("[[key]]", "key 1 needs a name"),
        ("[[key]]\nname = '../x'", "key 1 needs a name"),
        ("[[key]]\nname = 'bob'", r"key 1 \(bob\): public must be the 40 characters"),
        (
            f"{_GOOD}role = 'admin'",
            r"key 1 \(bob\): role must be one of operate, read, not 'admin'",
        ),
        (f"{_GOOD}topic = ['*']", "unknown field 'topic'; did you mean topics"),
        (f"{_GOOD}topics = ['*-PERP']", "'\\*-PERP' is no pattern of topics"),
        (f"{_GOOD}topics = '*'", "topics must be a list of texts"),
        (f"{_GOOD}max_connections = 0", "max_connections must be a whole number of at least 1"),
        (f"{_GOOD}token = 'hunter2'", "token must be sha256:"),
        (_GOOD + _GOOD, "key 2 has the name of another: bob"),
        (_GOOD + _GOOD.replace("bob", "eve"), "key 2 has the public of another: bob"),
        ("=", "not TOML"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "authorized_keys.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=expected) as found:
        authorized_file.read(file)
    assert str(found.value).startswith(f"{file}: ")


def test_a_file_that_others_may_change_is_refused_with_the_cure(tmp_path: Path) -> None:
    file = tmp_path / "authorized_keys.toml"
    file.write_text(_GOOD)
    file.chmod(0o664)
    with pytest.raises(ConfigError, match=r"others may change .*: type chmod 644"):
        authorized_file.read(file)


def test_revoking_one_leaves_the_rest_with_its_comments(tmp_path: Path) -> None:
    file = tmp_path / "authorized_keys.toml"
    names = ("alice", "bob", "carol")
    for name in names:
        public = key_files.public_part(key_files.make(name))
        authorized_file.add(
            file, authorized_file.of_public(public, topics=(f"book.{name.upper()}*",))
        )
    file.write_text(
        "# ours\n" + file.read_text().replace("name = 'carol'", "# she\nname = 'carol'")
    )
    authorized_file.remove(file, "bob")
    assert [key.name for key in authorized_file.read(file).keys] == ["alice", "carol"]
    assert file.read_text().startswith("# ours\n")
    assert "# she" in file.read_text()
    with pytest.raises(ConfigError, match="has no key 'bbo'"):
        authorized_file.remove(file, "bbo")
    for name in ("alice", "carol"):
        authorized_file.remove(file, name)
    assert authorized_file.read(file).keys == ()


# -- the commands --------------------------------------------------------------------------


def test_the_commands_from_a_new_key_to_its_end(tmp_path: Path) -> None:
    folder, file = ("--folder", str(tmp_path)), ("--file", str(tmp_path / "a.toml"))
    server = run("keys", "new", "server", *folder)
    assert server.returncode == 0, server.stderr
    line = run("keys", "new", "bob", *folder, "--server-key", str(tmp_path / "server.pub")).stdout
    assert Keys.read(tmp_path / "bob.key").server == Keys.read(tmp_path / "server.key").public
    done = run("keys", "authorize", line.strip(), *file, "--topic", "trades.*")
    assert done.returncode == 0, done.stderr
    listed = run("keys", "list", *file).stdout
    assert "bob" in listed
    assert "reads: trades.*" in listed
    again = run("keys", "authorize", str(tmp_path / "bob.pub"), *file)
    assert again.returncode == 3
    assert "has a key of bob already: 'collector keys revoke bob' first" in again.stderr
    assert run("keys", "revoke", "bob", *file).returncode == 0
    assert run("keys", "list", *file, "--json").stdout == "[]\n"
    (tmp_path / "bob.key").chmod(0o644)
    refused = run("status", "--keys", str(tmp_path / "bob.key"))
    assert refused.returncode == 3
    assert refused.stderr == (
        f"collector status: others may read {tmp_path}/bob.key (mode 0644): "
        f"type chmod 600 {tmp_path}/bob.key\n"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, as the kubelet is")
def test_a_secret_as_kubernetes_mounts_it() -> None:
    """Files of root behind links, readable for the group of the pod (fsGroup)."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        made = folder / "..2026_11_28"
        keys = key_files.make("collector")
        key_files.write(keys, made)
        entry = authorized_file.of_public(key_files.public_part(key_files.make("bob")))
        authorized_file.add(made / authorized_file.FILE, entry)
        (folder / "..data").symlink_to(made.name)
        for one in list(made.iterdir()):
            os.chown(one, 0, 65_532)
            one.chmod(0o440)
            (folder / one.name).symlink_to(f"..data/{one.name}")
        for one in (folder, made):
            one.chmod(0o755)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.setgroups([])
                os.setgid(65_532)
                os.setuid(65_532)
                same = Keys.read(folder / "collector.key").public == keys.public
                listed = authorized_file.read(folder / authorized_file.FILE).by_name
                code = int(not (same and "bob" in listed))
            finally:
                os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0
