"""`collector devnet`: a real node on loopback, with real trading."""

import sys
from pathlib import Path
from typing import get_args

import click
import msgspec

from collector.cli import options, value_types
from collector.cli.command import Command
from collector.devnet.config import DevnetConfig, Ports, Traffic
from collector.devnet.info import DevnetInfo
from collector.settings import installed
from collector.settings.start_options import MOST_MARKETS
from shards.protocol.errors import ConfigError


@click.command(cls=Command)
@options.option(
    "--spot",
    default=12,
    show_default=True,
    type=value_types.Number(int, least=0, most=MOST_MARKETS),
    help="Spot markets in the genesis.",
)
@options.option(
    "--perp",
    default=4,
    show_default=True,
    type=value_types.Number(int, least=0, most=MOST_MARKETS),
    help="Perpetual markets in the genesis.",
)
@options.option(
    "--quiet-markets",
    default=0,
    show_default=True,
    type=value_types.Number(int, least=0, most=MOST_MARKETS),
    help="Number of markets, from the end of the list, that never trade.",
)
@options.option(
    "--paused-markets",
    default=0,
    show_default=True,
    type=value_types.Number(int, least=0, most=MOST_MARKETS),
    help="Number of markets, before the quiet ones, with status Paused.",
)
@options.option(
    "--seed",
    default=1,
    show_default=True,
    type=value_types.Number(int),
    help="The same seed gives the same markets and the same orders.",
)
@options.option(
    "--block-time",
    default=0.65,
    show_default=True,
    type=value_types.Number(float, least=0.5, most=4),
    help="Seconds between blocks, 0.5 to 4; the node needs 0.51 for one.",
)
@options.option(
    "--traffic",
    default="normal",
    show_default=True,
    type=value_types.Value(Traffic, get_args(Traffic)),
    help="How much trading takes place.",
)
@options.option(
    "--stream-buffer",
    default=100,
    show_default=True,
    type=value_types.Number(int, least=1),
    help="Blocks the node keeps for a slow chain-stream subscriber before it drops it.",
)
@options.option(
    "--home",
    default=None,
    type=click.Path(),
    metavar="FOLDER",
    help="Keep the chain in this folder and continue it next time.  "
    "[default: a temporary folder, removed at the end]",
)
@options.option(
    "--rpc-port",
    default=0,
    type=value_types.Number(int, least=0, most=65535),
    help="CometBFT RPC port.  [default: a free one]",
)
@options.option(
    "--ws-port",
    default=0,
    type=value_types.Number(int, least=0, most=65535),
    help="Chain-stream WebSocket port.  [default: a free one]",
)
@options.option(
    "--grpc-port",
    default=0,
    type=value_types.Number(int, least=0, most=65535),
    help="Chain gRPC port.  [default: a free one]",
)
@options.option(
    "--stream-port",
    default=0,
    type=value_types.Number(int, least=0, most=65535),
    help="Chain-stream gRPC port.  [default: a free one]",
)
@options.json("Print endpoints and markets as one JSON line once the node is ready.")
@options.option(
    "--stop-with-stdin",
    is_flag=True,
    hidden=True,
    help="Stop when stdin is closed, for programs that start this one.",
)
def devnet(
    *, spot: int, perp: int, quiet_markets: int, paused_markets: int, seed: int,
    block_time: float, traffic: Traffic, stream_buffer: int, home: str | None, rpc_port: int,
    ws_port: int, grpc_port: int, stream_port: int, as_json: bool, stop_with_stdin: bool,
) -> None:  # fmt: skip
    """
    Run a real Injective node on loopback, with real trading.

    Ctrl-C stops it and leaves nothing behind. SIGUSR1 restarts the node on the same ports, with
    its chain. SIGUSR2 halts the chain while the node keeps answering; a second one resumes it.

    It can run for days: the node takes up to 700 MB of memory and about 700 MB of disk, since it
    prunes blocks beyond the newest 6,000 and states beyond the newest 1,000.
    """
    if quiet_markets + paused_markets > spot + perp:
        raise click.UsageError("--quiet-markets and --paused-markets exceed the number of markets")
    config = DevnetConfig(
        spot=spot, perp=perp, quiet_markets=quiet_markets, paused_markets=paused_markets,
        seed=seed, block_time_s=block_time, traffic=traffic, stream_buffer=stream_buffer, home=home,
        ports=Ports(rpc=rpc_port, ws=ws_port, grpc=grpc_port, stream=stream_port),
    )  # fmt: skip
    _run(config, as_json=as_json, stop_with_stdin=stop_with_stdin)


def _run(config: DevnetConfig, *, as_json: bool, stop_with_stdin: bool) -> None:
    from collector.devnet.errors import DevnetError
    from collector.devnet.session import Session

    announced = False

    def announce(info: DevnetInfo) -> None:
        nonlocal announced
        if announced:
            click.echo(f"the node is back, pid {info.pids.node}", err=True)
        else:
            path = _write_config(info)
            click.echo(msgspec.json.encode(info).decode() if as_json else _as_text(info, path))
        announced = True

    try:
        Session(config, announce, lifeline_pipe=sys.stdin if stop_with_stdin else None).run()
    except DevnetError as error:
        raise ConfigError(str(error)) from None


def _write_config(info: DevnetInfo) -> Path:
    """Write a configuration for `collector start` to the devnet's home."""
    found = info.endpoints
    path = Path(info.home) / "collector.toml"
    path.write_text(
        f'[network]\nchain_ws = ["{found.chain_ws}"]\nchain_stream = ["{found.chain_stream}"]\n'
        f'chain_grpc = ["{found.chain_grpc}"]\nrpc = ["{found.rpc}"]\n'
    )
    return path


def _as_text(info: DevnetInfo, config: Path) -> str:
    quiet = sum(market.quiet for market in info.markets)
    return (
        f"{info.chain_id}: {len(info.markets)} markets ({quiet} quiet), "
        f"a block every {info.block_time_s} s\n"
        f"  chain-ws    {info.endpoints.chain_ws}\n"
        f"  chain-grpc  {info.endpoints.chain_stream} (stream), "
        f"{info.endpoints.chain_grpc} (queries)\n"
        f"  rpc         {info.endpoints.rpc}\n"
        f"in another terminal: {installed.command()} start --shards 2 --config {config}\n"
        "Ctrl-C stops it."
    )
