"""
The messages of the chain and the indexer, and the calls of their services, without an SDK.

The messages and services that we use are in one compressed ``FileDescriptorSet`` beside this module
(`python -m tests.make_descriptors` generates it from an installed injective-py). Its descriptor
pool is private: in protobuf's default pool the same names collide with those of an injective-py
in the same process as soon as the two differ by one field.
"""

import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pool import DescriptorPool

INJECTIVE_SET: Final = Path(__file__).with_name("descriptors.binpb.zz")


class Messages:
    """The messages of some sets of ``.proto`` files; the sets are read at first use."""

    def __init__(self, *sets: Path) -> None:
        """Use the descriptors of these sets; a later set may import from earlier ones."""
        self._sets = sets
        self._pool: DescriptorPool | None = None
        # Two threads in here at once would create incompatible classes.
        self._reading = threading.Lock()

    @property
    def pool(self) -> DescriptorPool:
        """All descriptors."""
        if self._pool is None:
            with self._reading:
                if self._pool is None:
                    self._pool = _read(self._sets)
        return self._pool

    def read(self) -> None:
        """Read the files now, if that was not done yet."""
        self.pool  # noqa: B018

    def message(self, name: str) -> Any:
        """
        Return a message class by its full name, such as ``injective.stream.v2.StreamRequest``.

        Raises:
            KeyError: If there is no such message.

        """
        return message_factory.GetMessageClass(self.pool.FindMessageTypeByName(name))

    def package(self, name: str) -> "Package":
        """Return a package's messages as attributes, such as ``injective.stream.v2``."""
        return Package(self, name)

    def enum(self, name: str) -> dict[int, str]:
        """
        Return an enum's names by number.

        Raises:
            KeyError: If there is no such enum.

        """
        found = self.pool.FindEnumTypeByName(name)
        return {value.number: value.name for value in found.values}

    def stub(self, service: str, channel: Any) -> "Stub":
        """
        Return a service's calls over any channel, such as ``injective.stream.v2.Stream``.

        Raises:
            KeyError: If there is no such service.

        """
        return Stub(self.pool.FindServiceByName(service), channel)


class Package:
    """One package's messages: ``package.StreamRequest(…)``."""

    def __init__(self, messages: Messages, name: str) -> None:
        self._messages = messages
        self._name = name

    def __getattr__(self, name: str) -> Any:
        """Look up a message; called only at its first use."""
        try:
            found = self._messages.message(f"{self._name}.{name}")
        except KeyError:
            raise AttributeError(f"no message {name} in {self._name}") from None
        setattr(self, name, found)
        return found


class Stub:
    """One service's calls over a channel, blocking or not: ``stub.SpotMarkets(request)``."""

    def __init__(self, service: ServiceDescriptor, channel: Any) -> None:
        self._service = service
        self._channel = channel

    def __getattr__(self, name: str) -> Any:
        """Create a method's call; called only at its first use."""
        if name.startswith("__"):
            raise AttributeError(name)
        made = self._call(name, parsed=True)
        setattr(self, name, made)
        return made

    def raw(self, name: str) -> Any:
        """Return a method's call whose answers stay undecoded bytes."""
        return self._call(name, parsed=False)

    def _call(self, name: str, *, parsed: bool) -> Any:
        method: MethodDescriptor | None = self._service.methods_by_name.get(name)
        if method is None:
            raise AttributeError(f"no method {name} in {self._service.full_name}")
        request, response = map(
            message_factory.GetMessageClass, (method.input_type, method.output_type)
        )
        # None of the services that we use streams requests.
        open_ = self._channel.unary_stream if method.server_streaming else self._channel.unary_unary
        return open_(
            f"/{self._service.full_name}/{name}",
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString if parsed else None,
        )


def _read(sets: tuple[Path, ...]) -> DescriptorPool:
    pool = DescriptorPool()
    for path in sets:
        for file in files_of(zlib.decompress(path.read_bytes())):
            pool.AddSerializedFile(file)
    return pool


def files_of(descriptor_set: bytes) -> Iterator[bytes]:
    """
    Yield the files of a serialized ``FileDescriptorSet``, each after its imports.

    Parsed by hand, because importing ``descriptor_pb2`` takes longer than everything else here.
    """
    at = 0
    while at < len(descriptor_set):
        # Only field 1, length-delimited: a tag, a varint, then that many bytes.
        assert descriptor_set[at] == 0x0A
        size = shift = 0
        more = True
        while more:
            at += 1
            size |= (descriptor_set[at] & 0x7F) << shift
            shift += 7
            more = descriptor_set[at] >= 0x80
        at += 1
        yield descriptor_set[at : at + size]
        at += size


INJECTIVE: Final = Messages(INJECTIVE_SET)
"""The chain's streams and queries, the indexer's two exchange services, the event provider."""
