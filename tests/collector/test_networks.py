"""Networks by name and by file: what is used, and what is refused."""

import pytest

from collector import networks
from collector.networks import NETWORKS, File
from shards.config import Endpoints, Limits
from shards.errors import ConfigError

OWN = Endpoints(chain_ws=("ws://a:1/x",), chain_grpc=("a:2",), rpc=("http://a:3",))


@pytest.mark.parametrize("name", ["mainnet", "testnet"])
def test_public_networks_are_read_over_grpc_with_tls(name: str) -> None:
    network = NETWORKS[name]
    assert network.source == "chain-grpc"
    assert networks.endpoints(name, File(), network.source).tls
    assert all("injective.network" in e for e in network.endpoints.chain_stream)


def test_a_public_network_has_no_websocket_and_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"network\.chain_ws is empty, and the source chain-ws"):
        networks.endpoints("mainnet", File(), "chain-ws")


def test_a_files_endpoints_go_before_the_names() -> None:
    assert networks.endpoints("mainnet", File(network=OWN), "chain-ws") == OWN


def test_shards_share_what_a_public_network_allows_one_address() -> None:
    shards = 4
    each = networks.limits("mainnet", File(), shards=shards).requests_per_s
    assert each * shards == 20.0
    assert networks.limits("local", File(), shards=shards).requests_per_s == 0.0
    assert networks.limits("mainnet", File(network=OWN), shards=shards).requests_per_s == 0.0
    own = File(limits=Limits(requests_per_s=3.0))
    assert networks.limits("mainnet", own, shards=shards).requests_per_s == 3.0
