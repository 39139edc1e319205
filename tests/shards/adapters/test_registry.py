"""What the registry gathers from the adapters: their endpoints, quotas and sources."""

import pytest

from collector.settings.known_networks import NETWORKS
from shards.adapters import registry
from shards.protocol.errors import ConfigError
from shards.protocol.settings import Endpoints

MAINNET = NETWORKS["mainnet"]


def test_every_list_of_endpoints_belongs_to_one_adapter() -> None:
    lists = [
        name for name in Endpoints.__struct_fields__ if isinstance(getattr(MAINNET, name), tuple)
    ]
    assert sorted(registry.endpoint_kinds()) == sorted(lists)


def test_hosts_of_two_groups_have_their_own_limits() -> None:
    access = registry.open_access(MAINNET)
    assert access.allowed_per_s(MAINNET.rpc[0]) == 20.0
    assert access.allowed_per_s(MAINNET.indexer[0]) == 50.0
    assert access.allowed_per_s("another.example:443") == 0.0
    own = Endpoints(
        rpc=("http://a:1",), indexer=("b:2",), requests_per_s=7.0, indexer_requests_per_s=3.0
    )
    access = registry.open_access(own)
    assert (access.allowed_per_s("http://a:1"), access.allowed_per_s("b:2")) == (7.0, 3.0)


def test_endpoints_are_filtered_in_every_list() -> None:
    found = Endpoints(rpc=("a", "b"), events=("b",), others={"toy": ("b", "c")}, ca="file")
    kept = found.filtered(lambda name, at: at != "b" or name == "events")
    assert kept == Endpoints(rpc=("a",), events=("b",), others={"toy": ("c",)}, ca="file")


def test_facts_that_were_fetched_are_known_by_their_sources() -> None:
    assert registry.replays() == {"replay", "indexer-replay"}


def test_without_a_node_there_is_no_past() -> None:
    found = Endpoints(indexer=("a:1",))
    assert not registry.has_blocks(found)
    with pytest.raises(ConfigError, match="no endpoint in rpc is known"):
        registry.open_past(found, registry.open_access(found))
