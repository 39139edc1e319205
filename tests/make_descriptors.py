"""
Make the sets of descriptors that the product ships, from an installed injective-py.

Run `python -m tests.make_descriptors` after an update of injective-py, and look at what
it prints; `tests/shards/adapters/test_messages.py` fails until that is done.
"""

import zlib
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NamedTuple

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from collector.devnet.protos import DEVNET_SET
from shards.adapters.messages import INJECTIVE_SET


class Set(NamedTuple):
    """One shipped set: where it lies, the modules it is for, and the set that it builds on."""

    path: Path
    modules: tuple[str, ...]
    base: Path | None = None


SETS: Final = (
    Set(
        INJECTIVE_SET,
        (
            "injective.stream.v2.query",
            "injective.stream.v1beta1.query",
            "injective.exchange.v2.query",
            "injective.oracle.v1beta1.oracle",
            "exchange.injective_spot_exchange_rpc",
            "exchange.injective_derivative_exchange_rpc",
            "exchange.event_provider_api",
            "cosmos.base.tendermint.v1beta1.query",
        ),
    ),
    Set(
        DEVNET_SET,
        (
            "cosmos.tx.v1beta1.service",
            "injective.crypto.v1beta1.ethsecp256k1.keys",
            "injective.exchange.v2.tx",
            "injective.oracle.v1beta1.tx",
            "injective.oracle.v1beta1.query",
            "cosmos.gov.v1.query",
            "cosmos.gov.v1.tx",
        ),
        base=INJECTIVE_SET,
    ),
)


def make(one: Set) -> dict[str, FileDescriptorProto]:
    """Return the descriptors of a set by file name, each after those it imports."""
    found: dict[str, Any] = {}
    for module in one.modules:
        _add(import_module(f"pyinjective.proto.{module}_pb2").DESCRIPTOR, found)
    known = shipped(one.base) if one.base else {}
    return {
        name: FileDescriptorProto.FromString(file.serialized_pb)
        for name, file in found.items()
        if name not in known
    }


def _add(file: Any, found: dict[str, Any]) -> None:
    if file.name not in found:
        for imported in file.dependencies:
            _add(imported, found)
        found[file.name] = file


def shipped(path: Path) -> dict[str, FileDescriptorProto]:
    """Return the descriptors of a shipped set by file name."""
    files = FileDescriptorSet.FromString(zlib.decompress(path.read_bytes())).file
    return {file.name: file for file in files}


def main() -> None:
    """Write the sets, and say what changed."""
    for one in SETS:
        # First this: importing the SDK's modules registers the options that both are read with.
        files = make(one)
        was = shipped(one.path) if one.path.exists() else {}
        made = FileDescriptorSet(file=files.values()).SerializeToString(deterministic=True)
        one.path.write_bytes(zlib.compress(made, 9))
        changed = [name for name in {**was, **files} if was.get(name) != files.get(name)]
        print(f"{one.path}: {len(files)} files, {one.path.stat().st_size} bytes compressed")  # noqa: T201
        print(*(f"  changed: {name}" for name in changed), sep="\n")  # noqa: T201


if __name__ == "__main__":
    main()
