"""Without a node: amounts, addresses, captures, and what is said when something is not there."""

import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from collector.cli.verify import verify
from collector.verify import capture
from collector.verify.amounts import address, amount, hexadecimal, scaled
from collector.verify.block_results import trades
from collector.verify.books import Books
from collector.verify.capture import CaptureError
from collector.verify.published import Book


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("0", 0),
        ("1", 10**18),
        ("-0.015621", -15621 * 10**12),
        ("0.000000000000000001", 1),
        ("999999999999999999999999967413629598.388", 999999999999999999999999967413629598388 * 10**15),
    ],
)  # fmt: skip
def test_amounts_are_exact(text: str, whole: int) -> None:
    assert scaled(text) == whole
    assert scaled(amount(text)) == whole
    assert len(amount(text).partition(".")[2]) == 18


@pytest.mark.parametrize("text", ["", "x", "NaN", "Infinity", "0.0000000000000000001"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"amount|decimals"):
        scaled(text)


def test_bytes_become_addresses_and_hexadecimal() -> None:
    # The pair stands in the chain's documentation of its accounts.
    raw = "r5hEC97q2n7p3jyhiTdbcHY22jY="
    assert hexadecimal(raw) == "0xaf98440bdeeada7ee9de3ca189375b707636da36"
    assert hexadecimal("") == address("") == ""
    assert address(raw).startswith("inj14")
    assert len(address(raw)) == 42


def _execution(mode: str, market: str, quantity: str) -> dict[str, object]:
    fill = f'[{{"quantity":"{quantity}","price":"2.0","fee":"0.1"}}]'
    values = {"executionType": '"Market"', "market_id": f'"{market}"', "trades": fill, "mode": mode}
    return {
        "type": "injective.exchange.v2.EventBatchSpotExecution",
        "attributes": [{"key": key, "value": value} for key, value in values.items()],
    }


def test_trades_are_counted_in_the_order_in_which_the_node_makes_them() -> None:
    twin = _execution("EndBlock", "0xtwin", "9") | {
        "type": "injective.exchange.v1beta1.EventBatchSpotExecution"
    }
    found = trades(
        {
            "height": "7",
            "finalize_block_events": [
                twin,
                _execution("EndBlock", "0xend", "3"),
                _execution("BeginBlock", "0xbegin", "1"),
            ],
            "txs_results": [{"events": None}, {"events": [_execution("", "0xtx", "2")]}],
        }
    )
    assert [(t.trade_id, t.market_id) for t in found] == [
        ("7_0", "0xbegin"),
        ("7_1", "0xtx"),
        ("7_2", "0xend"),
    ]
    assert found[0].fields[1] == "sell"


def test_a_book_is_sampled_ever_more_rarely_unless_told_otherwise() -> None:
    def sampled(every: int | None) -> list[int]:
        books = Books(every)
        frames = [Book("0x1", n, n, n == 1, [("1.0", str(n))], []) for n in range(1, 11)]
        return [s.height for frame in frames if (s := books.take(frame)) is not None]

    assert sampled(None) == [1, 2, 4, 8]
    assert sampled(3) == [1, 3, 6, 9]


def test_a_capture_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.capture"
    with path.open("wb") as file:
        capture.write(file, "book.A.", b"body")
        capture.write(file, "book.B.", b"body")
    assert list(capture.read(str(path))) == [("book.A.", b"body"), ("book.B.", b"body")]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CaptureError, match="cut off"):
        list(capture.read(str(path)))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("--rpc", "127.0.0.1:9", "--grpc", "127.0.0.1:9"),
            "the RPC '127.0.0.1:9' is not of the form http://HOST:PORT",
        ),
        (
            ("--rpc", "http://127.0.0.1:9", "--grpc", "127.0.0.1:9"),
            "http://127.0.0.1:9 does not give its height",
        ),
        (
            ("--connect", "tcp://127.0.0.1:9"),
            "answered at tcp://127.0.0.1:9 (requests go to port 10)",
        ),
        (("--config", "/none.toml"), "/none.toml"),
    ],
)
def test_what_cannot_be_checked_is_said_in_one_sentence(
    arguments: tuple[str, ...], words: str
) -> None:
    result = CliRunner().invoke(verify, [*arguments, "--patience", "0"])
    assert result.exit_code == 3
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


@pytest.mark.parametrize("body", [b"[]", b'{"error": "no"}', b'{"result": [7]}', b"7", b"\xff"])
def test_an_answer_of_another_shape_is_a_failure_of_the_node(body: bytes) -> None:
    class Node(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Node) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        url = f"http://127.0.0.1:{server.server_port}"
        result = CliRunner().invoke(
            verify, ["--rpc", url, "--grpc", "127.0.0.1:9", "--patience", "0"]
        )
        server.shutdown()
    assert result.exit_code == 3, result.exception
    assert f"{url} does not give its height" in result.stderr


def test_every_option_has_a_help_text() -> None:
    assert all(getattr(option, "help", None) for option in verify.params)


def test_it_shares_no_decoding_with_the_data_path() -> None:
    """The types of events come along with the `Subscriber`; nothing that reads the sources may."""
    code = (
        "import sys, collector.verify.live, collector.verify.replayed\n"
        "print(*(m for m in sys.modules if m.startswith('shards')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    # What an adapter promises, and the node's messages, are no reading of what it tells.
    reading = re.compile(
        r"shards\.adapters\..*(decoder|block_results|order_fields|feed|pipeline|snapshots|replay)"
    )
    assert not [module for module in loaded if reading.match(module)]
    assert not loaded & {
        "shards.core.feed",
        "shards.core.pipeline",
        "shards.core.book_sync",
        "shards.protocol.ledger",
    }
    own = "".join(path.read_text() for path in Path("collector/verify").glob("*.py"))
    assert "shards.protocol.order_book" not in own
    assert set(re.findall(r"shards\.adapters\.\w+", own)) == {"shards.adapters.messages"}


def test_importing_the_command_is_cheap() -> None:
    code = "import sys, collector.cli.verify; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"grpc", "zmq", "pyinjective", "asyncio"} & set(done.stdout.split())


def test_a_recorded_body_is_the_published_one() -> None:
    from collector.client.received import Received
    from shards.protocol.events import Gap
    from shards.protocol.frames import prefix

    event = Gap("0x1", 1, "open", "mute", 5, 0, 7)
    import io

    file = io.BytesIO()
    capture.write_received(file, Received("gap.A.", "gap", "A", event, 1, 2, 3, 4, 5, 6, 7))
    published = prefix(3, 1, 2, 3, 4, 5, 6, 7) + msgspec.msgpack.encode(event)
    assert file.getvalue().endswith(b"gap.A." + len(published).to_bytes(4, "big") + published)
