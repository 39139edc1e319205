"""Options, their environment twins and the keys of the file: one struct, one order of precedence."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from collector.cli import start as command, value_types
from collector.cli.options import Option
from collector.cli.start import Asked
from collector.settings import wording
from collector.settings.start_options import ROWS, StartOptions
from tests.system.running import COLLECTOR

DOC = Path(__file__).parents[3] / "docs" / "operations.md"
EXIT_USAGE, EXIT_CONFIG = 2, 3

GIVEN: dict[str, tuple[list[str], str, str, Any]] = {
    "network": (["--network", "devnet"], "devnet", '"devnet"', "devnet"),
    "markets": (
        ["--market", "INJ/USDT", "--market", "BTC/USDT PERP"],
        "INJ/USDT,BTC/USDT PERP",
        '["INJ/USDT", "BTC/USDT PERP"]',
        ("INJ/USDT", "BTC/USDT PERP"),
    ),
    "types": (
        ["--type", "spot", "--type", "binary"],
        "spot binary",
        '["spot", "binary"]',
        ("spot", "binary"),
    ),
    "min_activity": (["--min-activity", "quiet"], "quiet", '"quiet"', "quiet"),
    "top": (["--top", "7"], "7", "7", 7),
    "part": (["--part", "2/3"], "2/3", '"2/3"', "2/3"),
    "shards": (["--shards", "3"], "3", "3", 3),
    "source": (["--source", "chain-grpc"], "chain-grpc", '"chain-grpc"', "chain-grpc"),
    "per_market": (["--per-market"], "1", "true", True),
    "redundancy": (["--redundancy", "2"], "2", "2", 2),
    "channels": (
        ["--channel", "book", "--channel", "ticker"],
        "book, ticker",
        '["book", "ticker"]',
        ("book", "ticker"),
    ),
    "publish": (
        ["--publish", "tcp://127.0.0.1:7000"],
        "tcp://127.0.0.1:7000",
        '["tcp://127.0.0.1:7000"]',
        ("tcp://127.0.0.1:7000",),
    ),
    "http": (["--http", "9464"], "9464", '"9464"', "9464"),
    "ready_coverage": (["--ready-coverage", "0.5"], "0.5", "0.5", 0.5),
    "metrics_markets": (["--metrics-markets", "0"], "0", "0", 0),
    "web": (["--web", "127.0.0.1:1"], "127.0.0.1:1", '"127.0.0.1:1"', "127.0.0.1:1"),
    "web_allow_remote": (["--web-allow-remote"], "true", "true", True),
    "keys": (["--keys", "/k/s.key"], "/k/s.key", '"/k/s.key"', "/k/s.key"),
    "authorized_keys": (["--authorized-keys", "/a.toml"], "/a.toml", '"/a.toml"', "/a.toml"),
    "admin": (
        ["--admin", "tcp://127.0.0.1:7"],
        "tcp://127.0.0.1:7",
        '"tcp://127.0.0.1:7"',
        "tcp://127.0.0.1:7",
    ),
    "tls_cert": (["--tls-cert", "/c.pem"], "/c.pem", '"/c.pem"', "/c.pem"),
    "tls_key": (["--tls-key", "/k.pem"], "/k.pem", '"/k.pem"', "/k.pem"),
    "insecure": (["--insecure"], "true", "true", True),
    "record": (["--record", "/archive"], "/archive", '"/archive"', "/archive"),
    "devnet_spot": (["--devnet-spot", "1"], "1", "1", 1),
    "devnet_perp": (["--devnet-perp", "2"], "2", "2", 2),
    "devnet_options": (["--devnet-option=--seed=3"], "--seed=3", '["--seed=3"]', ("--seed=3",)),
    "duration": (["--duration", "5"], "5", "5", 5.0),
    "min_coverage": (["--min-coverage", "1"], "1", "1.0", 1.0),
    "state": (["--state", "/s"], "/s", '"/s"', "/s"),
    "summary": (["--summary", "-"], "-", '"-"', "-"),
    "log_level": (["--log-level", "debug"], "DEBUG", '"DEBUG"', "DEBUG"),
    "log_format": (["--log-format", "json"], "json", '"json"', "json"),
}
"""Of each option: on the command line, in the environment, in the file; and what it means."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Asked]:
    """What `start` would have run."""
    found: list[Asked] = []

    def run(one: Asked) -> int:
        found.append(one)
        return 0

    monkeypatch.setattr(command, "run", run)
    return found


def started(*arguments: str, **environment: str) -> int:
    result = CliRunner().invoke(command.start, list(arguments), env=environment)
    assert result.exit_code == 0, result.output
    return result.exit_code


def test_every_option_is_tried_here() -> None:
    assert GIVEN.keys() == ROWS.keys()


@pytest.mark.parametrize("name", GIVEN)
def test_an_option_can_be_given_in_three_places_and_means_the_same(
    name: str, asked: list[Asked], tmp_path: Path
) -> None:
    line, twin, toml, value = GIVEN[name]
    file = tmp_path / "collector.toml"
    file.write_text(f"{name} = {toml}\n")
    started(*line)
    started(**{ROWS[name].twin: twin})
    started("--config", str(file))
    started()
    assert [getattr(one.options, name) for one in asked] == [value] * 3 + [ROWS[name].default]
    assert asked[0].origin(name) == ROWS[name].flag
    assert asked[1].origin(name) == ROWS[name].twin
    assert asked[2].origin(name) == f"{file}: {name}"


def test_the_command_line_goes_before_the_environment_before_the_file(
    asked: list[Asked], tmp_path: Path
) -> None:
    file = tmp_path / "collector.toml"
    file.write_text("shards = 2\nper_market = true\n")
    config = ("--config", str(file))
    started(*config)
    started(*config, COLLECTOR_START_SHARDS="3", COLLECTOR_START_PER_MARKET="false")
    started(*config, "--shards", "4", COLLECTOR_START_SHARDS="3")
    started(COLLECTOR_START_CONFIG=str(file))
    assert [one.options.shards for one in asked] == [2, 3, 4, 2]
    assert [one.options.per_market for one in asked] == [True, False, True, True]


@pytest.mark.parametrize(
    ("name", "text", "markets"),
    [
        ("COLLECTOR_START_MARKET", "BTC/USDT PERP", ("BTC/USDT PERP",)),
        ("COLLECTOR_START_MARKET", "BTC/USDT PERP, INJ/USDT", ("BTC/USDT PERP", "INJ/USDT")),
        ("COLLECTOR_START_MARKET", "BTC/USDT PERP\nINJ/USDT\n", ("BTC/USDT PERP", "INJ/USDT")),
        ("COLLECTOR_START_MARKETS", "BTC/USDT INJ/USDT", ("BTC/USDT", "INJ/USDT")),
        ("COLLECTOR_START_MARKETS", "BTC/USDT PERP,INJ/USDT", ("BTC/USDT PERP", "INJ/USDT")),
    ],
)
def test_a_ticker_with_a_blank_stays_one(
    asked: list[Asked], name: str, text: str, markets: tuple[str, ...]
) -> None:
    """The older name goes on splitting at blanks, as long as there is no comma."""
    started(**{name: text})
    assert asked[0].options.markets == markets


def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    import os

    return subprocess.run(
        [*COLLECTOR, *arguments], capture_output=True, text=True, check=False, timeout=120,
        env=os.environ | environment, stdin=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("COLLECTOR_START_SHARD", "; did you mean COLLECTOR_START_SHARDS"),
        ("COLLECTOR_STRAT_SHARDS", "; did you mean COLLECTOR_START_SHARDS"),
        ("COLLECTOR_QQQ", "; unset it"),
    ],
)
def test_an_unknown_name_in_the_environment_is_refused(name: str, meant: str) -> None:
    for arguments in (["capabilities"], ["start", "--network", "nonet"]):
        done = run(*arguments, **{name: "1"})
        assert done.returncode == EXIT_USAGE
        assert f"the environment has {name}, but no option has that name{meant}" in done.stderr
        assert done.stderr.count("\n") == 1


def test_names_that_others_set_are_left_alone() -> None:
    """Kubernetes sets them beside a service called "collector"; images say their version."""
    others = {
        "COLLECTOR_SERVICE_HOST": "10.0.0.1",
        "COLLECTOR_SERVICE_PORT": "5590",
        "COLLECTOR_SERVICE_PORT_FRAMES": "5590",
        "COLLECTOR_PORT": "tcp://10.0.0.1:5590",
        "COLLECTOR_PORT_5590_TCP_ADDR": "10.0.0.1",
        "COLLECTOR_VERSION": "0.1.0",
        "COLLECTOR_START_NO_SUCH": "",
        "COLLECTOR_STATUS_AS_JSON": "true",
        "COLLECTOR_TAIL_COUNT": "3",
    }
    assert run("capabilities", **others).returncode == 0


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e400"])
@pytest.mark.parametrize(
    "option",
    [
        ("start", "--duration"),
        ("start", "--min-coverage"),
        ("start", "--ready-coverage"),
        ("verify", "--duration"),
        ("verify", "--max-rps"),
        ("verify", "--patience"),
        ("devnet", "--block-time"),
        ("rebalance", "--within"),
        ("record", "--duration"),
    ],
)
def test_what_is_no_number_is_refused(option: tuple[str, str], number: str) -> None:
    from collector.cli.main import cli

    result = CliRunner().invoke(cli, [*option, number], prog_name="collector")
    assert result.exit_code == EXIT_USAGE
    assert result.stderr.startswith(f"collector {option[0]}: {option[1]} must be a number")


@pytest.mark.parametrize("number", ["9" * 400, "9" * 26, "1_0", "٣", "0x10", "\udcff", ""])
@pytest.mark.parametrize(
    "place",
    [("scale",), ("drain",), ("tail", "-n"), ("verify", "--books-every"), ("devnet", "--spot")],
)
def test_what_is_no_whole_number_that_a_message_holds_is_refused_as_typed(
    place: tuple[str, ...], number: str
) -> None:
    from collector.cli.main import cli

    result = CliRunner().invoke(cli, [*place, number], prog_name="collector")
    assert result.exit_code == EXIT_USAGE, result.output
    assert result.stderr.startswith(f"collector {place[0]}: "), result.stderr
    assert " must be a whole number of at least " in result.stderr
    assert f", not {number[:50] if number.startswith('9') else repr(number)}" in result.stderr


def _with_a_value() -> list[tuple[str, click.Command, str]]:
    """Every option of every command that takes a value."""
    from collector.cli.base import Group
    from collector.cli.main import cli

    assert isinstance(cli, Group)
    return [
        (one.name or "", one, option.flag)
        for one in cli.all_commands()
        for option in one.params
        if isinstance(option, Option) and not option.is_flag and not option.hidden
    ]


@pytest.mark.parametrize(
    ("name", "one", "flag"), _with_a_value(), ids=[f"{n}{f}" for n, _, f in _with_a_value()]
)
def test_an_empty_value_is_refused_and_not_taken_for_none(
    name: str, one: click.Command, flag: str
) -> None:
    """``--config "$FILE"`` with a variable that is not set would run with all defaults."""
    with pytest.raises(click.UsageError) as found:
        one.make_context(name, [flag, ""])
    assert isinstance(found.value, click.BadParameter)
    assert found.value.param is not None
    assert flag in found.value.param.opts


@pytest.mark.parametrize("key", ["state", "keys", "authorized_keys", "tls_cert", "tls_key"])
def test_an_empty_path_in_the_file_is_not_the_folder_of_the_file(tmp_path: Path, key: str) -> None:
    file = tmp_path / "f.toml"
    file.write_text(f'{key} = ""\n')
    done = run("start", "--config", str(file))
    assert done.returncode == EXIT_CONFIG
    assert f"{file}: {key} is empty: give it a value, or leave it out" in done.stderr


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("--summary", "cannot be written: nobody reads this pipe"),
        ("--keys", "is no file"),
    ],
)
def test_a_pipe_without_its_other_end_is_not_waited_for(
    tmp_path: Path, option: str, sentence: str
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    done = run("start", option, str(pipe))
    assert done.returncode == EXIT_CONFIG
    assert f"{pipe} {sentence}" in done.stderr


def test_a_pipe_that_is_read_gets_the_summary(tmp_path: Path) -> None:
    from collector.cli import summary_file
    from collector.client.summary import Summary

    pipe, told = tmp_path / "pipe", tmp_path / "told"
    os.mkfifo(pipe)
    with told.open("wb") as copy, subprocess.Popen(["cat", str(pipe)], stdout=copy) as reader:
        # Opened for both, so that it waits for nobody. The text is longer than what a pipe holds.
        holder = os.open(pipe, os.O_RDWR)
        summary_file.write(str(pipe), Summary(version="1" * 200_000))
        os.close(holder)
        assert reader.wait(60) == 0
    assert json.loads(told.read_text())["version"] == "1" * 200_000


@pytest.mark.parametrize("name", ["shards", "top", "ready_coverage", "log_level"])
@pytest.mark.parametrize("text", ["1_0", "٣", "1e400", "\udcff"])
def test_a_wrong_value_is_shown_as_it_was_typed(name: str, text: str) -> None:
    """Read by Python, the first is 10: `must be a whole number of at least 1, not 10`."""
    result = CliRunner().invoke(command.start, [ROWS[name].flag, text])
    assert result.exit_code == EXIT_USAGE, result.output
    expected = wording.expected(ROWS[name].type, ROWS[name].choices)
    assert f"{ROWS[name].flag} must be {expected}, not {text!r}" in result.stderr


@pytest.mark.parametrize(
    ("text", "seconds"), [("block", 0.0), ("Second", 1.0), ("2.5", 2.5), ("60", 60.0)]
)
def test_how_long_data_may_wait_for_the_disk(text: str, seconds: float) -> None:
    assert value_types.SyncAge().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["0", "61", "-1", "nan", "week", "blocks", ""])
def test_it_may_not_wait_for_ever_nor_for_nothing(text: str) -> None:
    with pytest.raises(click.UsageError, match="must be 'block', 'second', or seconds: a number"):
        value_types.SyncAge().convert(text, None, None)


@pytest.mark.parametrize("text", ["duration = nan", "min_coverage = nan", "ready_coverage = -inf"])
def test_what_is_no_number_is_refused_in_the_file_too(tmp_path: Path, text: str) -> None:
    file = tmp_path / "f.toml"
    file.write_text(text)
    done = run("start", "--config", str(file))
    assert done.returncode == EXIT_CONFIG
    assert f"{file}: {text.partition(' ')[0]} must be a number" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--publish", "ipc:///tmp/a", "--publish", "ipc:///tmp/a"], "ipc:///tmp/a is given twice"),
        (
            ["--publish", "tcp://127.0.0.1:7000", "--publish", "tcp://127.0.0.1:7001"],
            "--publish tcp://127.0.0.1:7001 collides with --publish tcp://127.0.0.1:7000: requests",
        ),
        (["--http", "5590"], "--http 5590 collides with --publish tcp://127.0.0.1:5590: frames"),
        (["--http", "0.0.0.0:5591"], "--http 0.0.0.0:5591 collides with --publish tcp://127.0.0.1"),
        (
            ["--http", "7000", "--web", "localhost:7000"],
            "--web localhost:7000 collides with --http",
        ),
        (["--per-market"], "--per-market is for the source chain-grpc, and chain-ws is read"),
        (["--devnet-spot", "3"], "--devnet-spot changes nothing without --network devnet"),
        (["--ready-coverage", "1"], "--ready-coverage changes nothing without --http"),
        (["--web-allow-remote"], "--web-allow-remote changes nothing without --web"),
        (["--summary", "/tmp"], "--summary /tmp cannot be written: Is a directory"),
        (["--summary", "/dev/full"], "--summary /dev/full cannot be written: No space left"),
    ],
)
def test_what_cannot_go_together_is_found_before_anything_starts(
    arguments: list[str], sentence: str
) -> None:
    done = run("start", *arguments)
    assert (done.returncode, done.stderr.count("\n")) == (EXIT_CONFIG, 1)
    assert done.stderr.startswith("collector start: ")
    assert sentence in done.stderr


def test_where_an_option_of_the_file_is_wrong_the_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "f.toml"
    for text, sentence in (
        ('channels = ["orders"]\nsource = "indexer-grpc"\n[network]\nindexer = ["a:1"]\n',
         "channels orders: the source indexer-grpc does not give it"),
        ("per_market = true", "per_market is for the source chain-grpc"),
        ('publish = ["nowhere"]', "publish 'nowhere' is neither tcp://HOST:PORT nor ipc://PATH"),
        ('http = "x"', "http must be HOST:PORT"),
        ('summary = "/tmp"', "summary /tmp cannot be written: Is a directory"),
        ("publish = []", "publish names no endpoint"),
    ):  # fmt: skip
        file.write_text(text)
        done = run("start", "--config", str(file))
        assert done.returncode == EXIT_CONFIG
        assert done.stderr.startswith(f"collector start: {file}: {sentence}")


def test_a_summary_that_cannot_be_written_leaves_no_file_behind(tmp_path: Path) -> None:
    wanted = tmp_path / "summary.json"
    done = run("start", "--summary", str(wanted), "--network", "nonet")
    assert done.returncode == EXIT_CONFIG
    assert not wanted.exists()


def test_a_full_disk_at_the_end_does_not_cost_the_summary(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from collector.cli import summary_file
    from collector.client.summary import Summary
    from shards.protocol.errors import ConfigError

    with pytest.raises(ConfigError, match="cannot be written: No space left on device"):
        summary_file.write("/dev/full", Summary(version="1.2.3"))
    assert '"version": "1.2.3"' in capsys.readouterr().err


@pytest.mark.parametrize("help_option", ["-h", "--help"])
def test_help_works_everywhere(help_option: str) -> None:
    from collector.cli.base import Group
    from collector.cli.main import cli

    assert isinstance(cli, Group)
    for name in cli.list_commands(None):  # type: ignore[arg-type]
        result = CliRunner().invoke(cli, [name, help_option])
        assert result.exit_code == 0
        assert result.output.startswith(f"Usage: cli {name}")


@pytest.mark.parametrize("arguments", ["capabilities", "capabilities --json", "start --help"])
def test_a_full_disk_behind_stdout_is_said(arguments: str) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*COLLECTOR, *arguments.split()], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == EXIT_CONFIG
    assert b"cannot write to stdout: No space left on device\n" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_unit_needs_the_file_alone(asked: list[Asked], tmp_path: Path) -> None:
    file = tmp_path / "collector.toml"
    usual = {name: toml for name, (_, _, toml, _) in GIVEN.items()}
    file.write_text("".join(f"{name} = {toml}\n" for name, toml in usual.items()))
    started("--config", str(file))
    assert asked[0].options == StartOptions(**{n: value for n, (_, _, _, value) in GIVEN.items()})


def documented() -> str:
    """The table of options as Markdown."""
    lines = ["| option | environment | key | default | |", "| --- | --- | --- | --- | --- |"]
    for row in ROWS.values():
        value = "" if row.is_flag else f" {row.metavar or '|'.join(row.choices)}"
        cell = f"`{row.flag}{value}`".replace("|", "\\|")
        lines.append(f"| {cell} | `{row.twin}` | `{row.name}` | {row.shown_default} | {row.help} |")
    return "\n".join(lines)


def test_the_documents_table_is_the_struct() -> None:
    assert f"\n\n{documented()}\n\n" in DOC.read_text(), documented()


def test_importing_the_options_is_cheap() -> None:
    code = "import sys, collector.cli.start; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"zmq", "grpc", "asyncio", "rich", "uvloop"} & set(done.stdout.split())


def test_separated_values() -> None:
    assert value_types.separated(" a , b,\nc,", by_blanks=False) == ("a", "b", "c")
    assert value_types.separated("a b", by_blanks=False) == ("a b",)
    assert value_types.separated("a b", by_blanks=True) == ("a", "b")
