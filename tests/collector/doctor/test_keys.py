"""What `collector doctor` says of key files, real ones."""

from pathlib import Path

from click.testing import CliRunner

from collector.cli.main import cli
from collector.doctor.keys import keys
from collector.settings.start_options import StartOptions

OPEN = ("tcp://0.0.0.0:5590",)


def make(folder: Path, name: str) -> Path:
    done = CliRunner().invoke(cli, ["keys", "new", "--folder", str(folder), name])
    assert done.exit_code == 0, done.output
    return folder / f"{name}.key"


def said(**options: object) -> list[tuple[str, str]]:
    return [(one.verdict, one.text) for one in keys(StartOptions(**options))]  # type: ignore[arg-type]


def test_an_open_address_needs_keys_and_those_need_readers(tmp_path: Path):
    [(verdict, text)] = said(publish=OPEN)
    assert verdict == "bad"
    assert "can be reached from other machines" in text
    server = make(tmp_path, "server")
    assert said(publish=OPEN, keys=str(server)) == [
        ("fine", f"{server} is the key of server"),
        (
            "note",
            f"{tmp_path}/authorized_keys.toml is missing, so no key may connect: "
            "'collector keys authorize'",
        ),
    ]
    make(tmp_path, "bob")
    told = ["keys", "authorize", str(tmp_path / "bob.pub")]
    file = tmp_path / "authorized_keys.toml"
    done = CliRunner().invoke(cli, [*told, "--file", str(file)])
    assert done.exit_code == 0, done.output
    assert said(publish=OPEN, keys=str(server))[1] == ("fine", f"{file} authorizes 1 key")


def test_files_that_would_be_refused(tmp_path: Path):
    server = make(tmp_path, "server")
    server.chmod(0o644)
    [(verdict, text), _] = said(keys=str(server))
    assert verdict == "bad"
    assert f"chmod 600 {server}" in text
    server.chmod(0o600)
    (tmp_path / "authorized_keys.toml").write_text("[[key]]\nname = 7\n")
    assert said(keys=str(server))[1][0] == "bad"
    assert said(tls_cert="nowhere.pem") == [
        ("bad", "--tls-key is missing: TLS needs a certificate and its key")
    ]


def test_without_keys_there_is_nothing_to_say():
    assert said() == []


def test_what_start_would_refuse_of_http_is_said_too(tmp_path: Path):
    server = str(make(tmp_path, "server"))
    [(verdict, text), *_] = said(keys=server, http="0.0.0.0:9464")
    assert (verdict, "would send tokens unencrypted" in text) == ("bad", True)
    [(verdict, text)] = said(web="0.0.0.0:5599")
    assert (verdict, "or add --web-allow-remote" in text) == ("bad", True)
    assert said(web="0.0.0.0:5599", web_allow_remote=True) == []
    assert said(publish=OPEN, insecure=True) == [
        ("note", f"with --insecure --publish {OPEN[0]} can be reached from other machines, and "
         "anyone there could read everything")
    ]  # fmt: skip
