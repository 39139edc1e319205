"""The summary as `status` and a terminal show it."""

import msgspec

from collector.client.summary import Summary
from collector.tui.summary_text import block_lines
from tests.collector.tui.pictures import summary

UNTIL = 1_795_000_000_000_000_000


def lines(**fields: object) -> list[str]:
    return block_lines(msgspec.convert(summary(**fields), Summary), 0.0)


def test_a_replaced_chain_is_named() -> None:
    former = {"id": "", "generation": 0, "until": UNTIL, "first": 1, "last": 9, "due": 9}
    former |= {"received": 9, "replayed": 0, "missing": 0, "gaps": {}}
    shown = lines(chain={"former": [former]})
    assert any(line.startswith("chain     replaced by another one on 2026-11-18") for line in shown)
    assert not any(line.startswith("chain") for line in lines())


def test_nodes_that_are_not_fit_are_named_with_their_reason() -> None:
    nodes = [
        {"endpoint": "http://a", "fit": True, "reason": ""},
        {"endpoint": "b:443", "fit": False, "role": "stream", "reason": "another\x1b[31m chain"},
    ]
    (line,) = [line for line in lines(chain={"nodes": nodes}) if line.startswith("node")]
    assert line == "node      b:443 (stream) is not fit: another\\x1b[31m chain"


def test_blocks_whose_pace_is_not_known_have_none() -> None:
    assert "blocks    head 12345678   completeness" in "\n".join(lines(block_time_s=0.0))
    assert "blocks    head 12345678, every 0.65 s   completeness" in "\n".join(lines())
