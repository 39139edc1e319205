"""`collector init`: what it writes is a configuration, and says what the defaults are."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from collector.cli.main import cli
from collector.settings.config_file import File, read
from collector.settings.known_networks import BASES, NETWORKS
from collector.settings.start_options import ROWS, StartOptions


def init(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(cli, ["init", *arguments])
    return done.exit_code, done.output


@pytest.mark.parametrize("network", NETWORKS)
def test_what_it_writes_changes_nothing_but_the_network(tmp_path: Path, network: str):
    path = tmp_path / "collector.toml"
    code, said = init("--network", network, str(path))
    assert code == 0
    assert f"collector doctor --config {path}" in said
    assert path.stat().st_mode & 0o777 == 0o600
    found = read(str(path))
    told = {"network": "devnet"} if network == "devnet" else {}
    assert found == File(
        path=str(path), network=NETWORKS[network] if network in BASES else None, options=told
    )


@pytest.mark.parametrize("network", NETWORKS)
def test_every_key_is_in_it_with_its_default(tmp_path: Path, network: str):
    path = tmp_path / "collector.toml"
    init("--network", network, str(path))
    # Every line that is commented out, but prose and what has no default.
    text = re.sub(r"^# (\w+ = [^…\n]*)$", r"\1", path.read_text(), flags=re.MULTILINE)
    path.write_text(text)
    found = read(str(path))
    told = StartOptions(**found.options)
    assert found.limits == File().limits
    assert found.supervision == File().supervision
    for name in ROWS.keys() - {"network"}:
        assert getattr(told, name) == ROWS[name].default
        assert re.search(rf"^#? ?{name} = ", path.read_text(), re.MULTILINE), name
    if network != "devnet":
        assert found.network == NETWORKS[network]


def test_a_file_that_is_there_is_left_alone(tmp_path: Path):
    path = tmp_path / "collector.toml"
    path.write_text("shards = 3\n")
    code, said = init(str(path))
    assert code == 3
    assert f"{path} exists: move it away, or name another file" in said
    assert path.read_text() == "shards = 3\n"
    code, said = init(str(tmp_path / "missing" / "collector.toml"))
    assert code == 3
    assert "cannot write" in said
    code, said = init("--network", "moon")
    assert code == 3
    assert "must be one of mainnet, testnet, local, devnet" in said
