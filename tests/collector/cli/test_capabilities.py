"""One catalogue of channels: what the command prints, the documents say and `start` accepts."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from collector.cli.main import cli
from shards.adapters import registry
from shards.protocol import channels, frames
from shards.protocol.channels import DEFAULT_CHANNELS
from shards.protocol.errors import ConfigError

DOC = Path(__file__).parents[3] / "docs" / "operations.md"


def documented() -> str:
    """The table as Markdown."""
    head, *rows = registry.table()
    lines = [
        head,
        ["---"] * len(head),
        *([f"`{name}`", f"`{topic}`", *rest] for name, topic, *rest in rows),
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def test_the_documents_table_is_the_catalogue() -> None:
    assert f"\n\n{documented()}\n\n" in DOC.read_text(), documented()


def test_the_command_prints_the_catalogue() -> None:
    result = CliRunner().invoke(cli, ["capabilities"])
    assert result.exit_code == 0
    for row in registry.table()[1:]:
        for cell in row:
            assert (cell if cell != "-" else "not given") in result.stdout


def test_its_json_is_plain_data() -> None:
    result = CliRunner().invoke(cli, ["capabilities", "--json"])
    rows = json.loads(result.stdout)
    assert [row["channel"] for row in rows] == list(channels.NAMES)
    assert {row["channel"] for row in rows if row["default"]} == set(DEFAULT_CHANNELS)
    assert rows[0]["sources"].keys() == set(registry.names())


def test_every_channel_of_the_catalogue_has_a_kind_and_its_states_are_the_wires() -> None:
    assert set(channels.NAMES) == frames.KIND_BY_CHANNEL.keys() - {"gap", "divergence"}
    assert {"ticker", "oracle", "funding", "markets", "blocks"} == frames.STATES
    for rows in (channels.BY_NAME, channels.BY_KIND, channels.BY_EVENT):
        assert len(rows) == len(channels.CHANNELS), "two rows share what tells them apart"
    for channel in channels.CHANNELS:
        fields = channel.event.__struct_fields__
        assert not channel.items or channel.items in fields
        assert channel.identity is not channels.Identity.SEQUENCE or "sequence" in fields
        assert channel.identity is not channels.Identity.HEIGHT or "height" in fields


@pytest.mark.parametrize("source", registry.names())
def test_a_channel_that_the_source_does_not_give_is_refused_in_one_sentence(
    source: str,
) -> None:
    adapter = registry.adapter(source)
    given = adapter.channels
    adapter.check(given)
    for name in set(channels.NAMES) - set(given):
        with pytest.raises(ConfigError, match=f"--channel {name}: the source {source} does not"):
            adapter.check([name])


def test_a_channel_that_nobody_knows_is_refused_by_its_name() -> None:
    with pytest.raises(
        ConfigError, match="channel 'books': no such channel; there are book, trades"
    ):
        registry.adapter("chain-ws").check(["books"])
