"""The folder a chain lives in: made, found again, and removed if it was temporary."""

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from collector.devnet.accounts import accounts
from collector.devnet.config import DevnetConfig
from collector.devnet.errors import DevnetError
from collector.devnet.genesis import build_genesis
from collector.devnet.markets import Market, market_table

CHAIN_ID = "injective-777"
_NOTE = "devnet.json"
"""Beside the chain, written last: which markets its genesis holds."""
LITTER = "tmp"
"""The node's folder for temporary files, emptied at each boot."""


class _Note(msgspec.Struct):
    markets: tuple[Market, ...]


_KEPT_LOG_PARTS = 3
"""Of ten megabytes each."""


@contextmanager
def chain_home(wanted: str | None) -> Iterator[Path]:
    """Give the folder of the chain; a temporary one is gone afterwards."""
    if wanted is not None:
        home = Path(wanted).absolute()
        try:
            home.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise DevnetError(f"{home} cannot be the home of the chain: {exc.strerror}") from exc
        yield home
        return
    home = Path(tempfile.mkdtemp(prefix="collector-devnet-"))
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


def furnish(
    home: Path, config: DevnetConfig, *, binary: Path, environment: Mapping[str, str]
) -> tuple[Market, ...]:
    """
    Write a new chain into an empty home, or leave the one that is there; give its markets.

    Raises:
        DevnetError: If the home holds something else, or the node cannot write to it.

    """
    note = home / _NOTE
    if note.exists():
        markets = msgspec.json.decode(note.read_bytes(), type=_Note).markets
        shutil.rmtree(home / LITTER, ignore_errors=True)
        (home / LITTER).mkdir()
    elif any(home.iterdir()):
        raise DevnetError(f"{home} is neither empty nor the home of an earlier devnet")
    else:
        (home / LITTER).mkdir()
        run_node([str(binary), "init", "devnet", "--chain-id", CHAIN_ID], home, environment)
        markets = market_table(
            spot=config.spot,
            perp=config.perp,
            quiet=config.quiet_markets,
            paused=config.paused_markets,
            seed=config.seed,
        )
        _configure(home)
        _write_genesis(home, markets)
        note.write_bytes(msgspec.json.encode(_Note(markets)))
    return markets


def tidy(home: Path) -> None:
    """Remove the oldest parts of the consensus log, which grows without end: its end alone is read."""
    parts = (home / "data" / "cs.wal").glob("wal.[0-9]*")
    numbered = sorted(parts, key=lambda part: int(part.suffix[1:]))
    for part in numbered[:-_KEPT_LOG_PARTS]:
        part.unlink(missing_ok=True)


def run_node(command: Sequence[str], home: Path, environment: Mapping[str, str]) -> None:
    """
    Run one of the node's short commands.

    Raises:
        DevnetError: If it fails, with the end of what it said.

    """
    done = subprocess.run(
        [*command, "--home", str(home)], env=environment, capture_output=True, check=False
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise DevnetError(f"injectived {command[1]} failed: {' '.join(said[-3:])}")


def _write_genesis(home: Path, markets: Sequence[Market]) -> None:
    path = home / "config" / "genesis.json"
    key = json.loads((home / "config" / "priv_validator_key.json").read_bytes())
    genesis = build_genesis(
        json.loads(path.read_bytes()),
        markets=markets,
        accounts=accounts(),
        validator_key=key["pub_key"]["value"],
    )
    path.write_text(json.dumps(genesis))


def _configure(home: Path) -> None:
    """Switch off the index of transactions, which has no flag: nobody here asks for it."""
    path = home / "config" / "config.toml"
    path.write_text(
        re.sub(r"^indexer = .*$", 'indexer = "null"', path.read_text(), flags=re.MULTILINE)
    )
