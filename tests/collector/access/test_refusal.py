"""What other machines reach is refused without keys, before anything starts."""

from pathlib import Path

import pytest

from collector.access import key_files, refusal
from tests.system.running import run

EXIT_CONFIG = 3


@pytest.mark.parametrize(
    ("endpoint", "is_open"),
    [
        ("tcp://127.0.0.1:5590", False),
        ("tcp://127.9.9.9:5590", False),
        ("tcp://localhost:5590", False),
        ("tcp://[::1]:5590", False),
        ("tcp://lo:5590", False),
        ("ipc:///run/c.sock", False),
        ("tcp://0.0.0.0:5590", True),
        ("tcp://*:5590", True),
        ("tcp://[::]:5590", True),
        ("tcp://192.0.2.1:5590", True),
        ("tcp://eth0:5590", True),
        ("tcp://nowhere.invalid:5590", True),
        ("tcp://[::ffff:192.0.2.1]:5590", True),
        ("127.0.0.1:9464", False),
        ("0.0.0.0:9464", True),
        ("9464", False),
        (":9464", False),
        ("[::1]:9464", False),
    ],
)
def test_which_addresses_other_machines_reach(endpoint: str, is_open: bool) -> None:
    assert refusal.is_open(endpoint) is is_open


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            ["--publish", "tcp://0.0.0.0:5590"],
            "--publish tcp://0.0.0.0:5590 can be reached from other machines, and anyone there "
            "could read everything: give --keys FILE ('collector keys new server' makes one), or "
            "--insecure if that is meant",
        ),
        (
            ["--http", "0.0.0.0:9464"],
            "--http 0.0.0.0:9464 can be reached from other machines, and asks for no password: give "
            "--keys and --tls-cert with --tls-key, or add --insecure if that is meant",
        ),
        (
            ["--http", "0.0.0.0:9464", "--keys", "server.key"],
            "would send tokens unencrypted: give --tls-cert with --tls-key, or add --insecure",
        ),
        (["--web", "0.0.0.0:9464"], "--web 0.0.0.0:9464 can be reached from other machines"),
        (
            ["--web", "0.0.0.0:9464", "--keys", "server.key"],
            "would send tokens unencrypted: give --tls-cert with --tls-key, or add --web-allow",
        ),
        (
            ["--admin", "tcp://127.0.0.1:7"],
            "needs --keys: anyone who reached it could send admin commands",
        ),
        (["--admin", "ipc:///x", "--keys", "server.key"], "must be tcp://HOST:PORT"),
        (["--authorized-keys", "a.toml"], "--authorized-keys needs --keys"),
        (["--keys", "none.key"], "cannot read none.key: No such file or directory"),
        (["--keys", "open.key"], "others may read open.key (mode 0644): type chmod 600 open.key"),
        (
            ["--keys", "server.key", "--authorized-keys", "none.toml"],
            "none.toml is missing, so no key could connect",
        ),
        (["--tls-cert", "c.pem"], "--tls-key is missing"),
        (["--tls-cert", "none.pem", "--tls-key", "k.pem"], "--tls-cert none.pem is no file"),
        (
            ["--tls-cert", "server.pub", "--tls-key", "server.key"],
            "--tls-cert server.pub and --tls-key server.key cannot be used",
        ),
    ],
)
def test_what_would_be_open_is_refused_in_one_sentence(
    options: list[str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("server", "open"):
        key_files.write(key_files.make(name), tmp_path)
    (tmp_path / "open.key").chmod(0o644)
    (tmp_path / "authorized_keys.toml").write_text("")
    done = run("start", *options)
    assert done.returncode == EXIT_CONFIG
    assert expected in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_replay_refuses_it_too(tmp_path: Path) -> None:
    done = run("replay", str(tmp_path), "--publish", "tcp://*:5590")
    assert done.returncode == EXIT_CONFIG
    assert "give --keys FILE" in done.stderr
