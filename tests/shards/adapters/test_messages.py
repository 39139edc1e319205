"""The shipped descriptors: whole, apart from any SDK's, and the same as an installed injective-py's."""

import importlib.util
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from shards.adapters.messages import INJECTIVE, INJECTIVE_SET, Messages

sdk = pytest.mark.skipif(
    importlib.util.find_spec("pyinjective") is None,
    reason="injective-py is not installed: nothing to compare the shipped messages with",
)


def _run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@sdk
@pytest.mark.parametrize("number", [0, 1], ids=["product", "devnet"])
def test_a_shipped_set_is_what_the_installed_sdk_gives(number: int) -> None:
    # A program of its own: the SDK's modules fill the default pool of the process.
    code = (
        "from tests.make_descriptors import SETS, make, shipped\n"
        f"made = make(SETS[{number}])\n"
        f"assert len(made) > 10 and made == shipped(SETS[{number}].path)"
    )
    _run(code)


_BOTH = """
from shards.adapters.messages import INJECTIVE
ours = INJECTIVE.message("injective.stream.v2.StreamResponse")
{}
from pyinjective.proto.injective.stream.v2 import query_pb2
theirs = query_pb2.StreamResponse
assert ours is not theirs
sent = ours(block_height=7, spot_trades=[{{"trade_id": "7_0"}}])
assert theirs.FromString(sent.SerializeToString()).spot_trades[0].trade_id == "7_0"
"""


@sdk
@pytest.mark.parametrize("first", ["import pyinjective", ""], ids=["whole SDK", "its messages"])
def test_a_user_may_have_the_sdk_in_the_same_process(first: str) -> None:
    _run(_BOTH.format(first))
    _run("import pyinjective.async_client_v2\n" + _BOTH.format(""))


def test_another_version_of_the_same_file_in_the_default_pool_does_no_harm() -> None:
    _run(
        "from google.protobuf import descriptor_pb2, descriptor_pool\n"
        "other = descriptor_pb2.FileDescriptorProto(\n"
        "    name='injective/stream/v2/query.proto', package='injective.stream.v2')\n"
        "other.message_type.add(name='StreamRequest')\n"
        "descriptor_pool.Default().Add(other)\n"
        "from shards.adapters.messages import INJECTIVE\n"
        "assert len(INJECTIVE.message('injective.stream.v2.StreamRequest').DESCRIPTOR.fields) > 5"
    )


def test_threads_that_come_first_together_share_their_classes() -> None:
    messages = Messages(INJECTIVE_SET)
    with ThreadPoolExecutor(8) as threads:
        name = "injective.stream.v2.StreamRequest"
        found = set(threads.map(lambda _: messages.message(name), range(64)))
    assert len(found) == 1


def test_what_is_not_described_is_named() -> None:
    with pytest.raises(AttributeError, match=r"no message Nothing in injective\.stream\.v2"):
        _ = INJECTIVE.package("injective.stream.v2").Nothing
    with pytest.raises(KeyError):
        INJECTIVE.message("injective.stream.v2.Nothing")
    with grpc.insecure_channel("127.0.0.1:1") as channel:
        with pytest.raises(KeyError):
            INJECTIVE.stub("injective.stream.v2.Nothing", channel)
        stub = INJECTIVE.stub("injective.stream.v2.Stream", channel)
        with pytest.raises(AttributeError, match=r"no method Nothing in injective\.stream\.v2"):
            _ = stub.Nothing


def test_an_enum_gives_its_names_by_number() -> None:
    names = INJECTIVE.enum("injective.oracle.v1beta1.OracleType")
    assert names[2] == "PriceFeed"
    assert 999 not in names
