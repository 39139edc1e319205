"""Run one check: from the options of `collector verify` to the findings."""

import importlib.util
import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from collector.client.requests import RequestClient
from collector.client.summary import read_summary
from collector.markets import networks
from collector.settings import installed
from collector.verify import replayed
from collector.verify.archive_findings import ArchiveFindings
from collector.verify.chain import Chain
from collector.verify.findings import Findings
from collector.verify.live import Live, Options
from collector.verify.signals import first_one_sets
from shards.protocol.errors import ConfigError
from shards.protocol.settings import Endpoints
from shards.protocol.text import printable, without_secrets

if TYPE_CHECKING:
    from collector.verify.archived import Identity


def of_archive(asked: dict[str, Any]) -> ArchiveFindings:
    """
    Check an archive, and compare it with a chain if one is given.

    Raises:
        ConfigError: If there is no archive, or the options do not fit.
        Unreachable: If the node does not answer.

    """
    if importlib.util.find_spec("pyarrow") is None:
        raise ConfigError(installed.missing("archive", "the extra 'archive' is"))
    from collector.verify.archive_check import Check

    root = Path(asked["archive"])
    if not (asked["rpc"] or asked["network"] or asked["config"]):
        return Check(root).run()
    with _chain(asked) as chain:
        check = Check(root, chain)
        _need_same_chain(root, check.archive.identity, chain)
        return check.run()


def _need_same_chain(root: Path, held: "Identity", chain: Chain) -> None:
    """Refuse to hold an archive against another chain than the one that it is of."""
    network = chain.network()
    if held.chain_id and network != held.chain_id:
        raise ConfigError(
            f"{root}: holds the chain {held.chain_id}, and {without_secrets(chain.rpc)} has "
            f"{printable(network, 60)}"
        )
    newest, made = chain.newest()
    for height, mark, time in held.marks:
        found = chain.block_hash(height)
        reason = ""
        if mark and found and found != mark:
            reason = f"block {height} is another one"
        elif newest < height and made > time / 1e9 + 1:
            reason = f"its block {newest} is later than block {height} of the archive"
        if reason:
            raise ConfigError(
                f"{root}: holds another chain named {held.chain_id} than "
                f"{without_secrets(chain.rpc)} has: {reason}"
            )


def run(asked: dict[str, Any]) -> Findings:
    """
    Check a capture, or follow a collector and check what it publishes.

    Raises:
        ConfigError: If the options do not fit.
        Unreachable: If the collector or the node does not answer.
        CaptureError: If the file is not a capture.
        ValueError: If a market pattern matches nothing.

    """
    _look_at_files(asked)
    with _chain(asked) as chain:
        if asked["capture"]:
            return replayed.check(asked["capture"], chain, books_every=asked["books_every"])
        with first_one_sets() as stop:
            return _live(asked, chain, stop)


def _look_at_files(asked: dict[str, Any]) -> None:
    """Check before any query that the files can be read or written."""
    for option, mode in (("capture", "rb"), ("record", "ab")):
        if path := asked[option]:
            try:
                Path(path).open(mode).close()
            except OSError as error:
                what = "read" if mode == "rb" else "written"
                raise ConfigError(f"--{option} {path} cannot be {what}: {error.strerror}") from None


def _live(asked: dict[str, Any], chain: Chain, stop: threading.Event) -> Findings:
    wanted = Options(
        connect=asked["connect"],
        duration_s=asked["duration"],
        markets=asked["markets"],
        channels=asked["channels"] or ("book", "trades"),
        books_every=asked["books_every"],
    )
    if not asked["record"]:
        return Live(wanted, chain).run(stop)
    try:
        with Path(asked["record"]).open("wb") as record:
            return Live(wanted, chain, record).run(stop)
    except OSError as error:
        raise ConfigError(
            f"--record {asked['record']} cannot be written: {error.strerror}"
        ) from None


def _chain(asked: dict[str, Any]) -> "closing[Chain]":
    """Create the chain's client from the options, a configuration, or the collector's status."""
    network = _network(asked)
    rpc = asked["rpc"] or next(iter(network.rpc), "")
    grpc = asked["grpc"] or next(iter(network.chain_grpc), "")
    if not rpc or not grpc:
        raise ConfigError("no node is named: give --rpc and --grpc, or --network")
    if not rpc.startswith(("http://", "https://")):
        raise ConfigError(f"the RPC {without_secrets(rpc)!r} is not of the form http://HOST:PORT")
    chain = Chain(
        rpc,
        grpc,
        network=msgspec.structs.replace(
            network, tls=asked["tls"] or (network.tls and not asked["grpc"])
        ),
        max_rps=asked["max_rps"],
        patience_s=asked["patience"],
    )
    if asked["archive"]:
        # Books are not compared, so gRPC is not needed.
        chain.greet_rpc()
    else:
        chain.greet()
    return closing(chain)


def _network(asked: dict[str, Any]) -> Endpoints:
    """Find the node's endpoints, if the options do not give them all."""
    if asked["config"] or asked["network"]:
        file = networks.read(asked["config"]) if asked["config"] else networks.File()
        name = asked["network"] or file.options.get("network", "local")
        return networks.described(name, file)[1]
    if asked["capture"] or asked["archive"] or (asked["rpc"] and asked["grpc"]):
        return networks.LOCAL
    with RequestClient.of(asked["connect"]) as client:
        try:
            found = read_summary(client.ask("status", within_s=5.0)).endpoints
        except (TimeoutError, ValueError) as error:
            raise ConfigError(str(error)) from None
    if any("***" in url for url in (*found.rpc[:1], *found.chain_grpc[:1])):
        raise ConfigError(
            f"the endpoints of the collector at {asked['connect']} contain keys, which it does not "
            "publish: give its --config, or --rpc and --grpc"
        )
    return found
