"""Networks by name and by file: what is used, and what is refused."""

from pathlib import Path

import pytest

from collector.markets import networks
from collector.markets.networks import NETWORKS, File
from shards.protocol.errors import ConfigError
from shards.protocol.settings import Endpoints, SourceName

OWN = Endpoints(chain_ws=("ws://a:1/x",), chain_grpc=("a:2",), rpc=("http://a:3",))


@pytest.mark.parametrize("name", ["mainnet", "testnet"])
def test_public_networks_are_read_over_grpc_with_tls(name: str) -> None:
    source = networks.source(name, File())
    assert source == "chain-grpc"
    found = networks.endpoints(name, File(), source)
    assert found.tls
    assert all("injective.network" in e for e in found.chain_stream)


def test_a_public_network_has_no_websocket_and_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"network\.chain_ws is empty, and the source chain-ws"):
        networks.endpoints("mainnet", File(), "chain-ws")


def test_a_files_endpoints_go_before_those_of_the_usual_node() -> None:
    assert networks.endpoints("local", File(network=OWN), "chain-ws") == OWN


@pytest.mark.parametrize("name", ["mainnet", "testnet", "devnet"])
def test_a_network_is_not_collected_under_the_name_of_another(name: str) -> None:
    file = File(path="f.toml", network=OWN)
    with pytest.raises(ConfigError, match=rf"{name} is asked for, and the \[network\] of f.toml"):
        networks.described(name, file)
    assert networks.title("local", file) == "the [network] of f.toml"
    assert networks.title("local", File()) == "local"


def test_a_network_that_the_file_names_is_chosen_by_its_name() -> None:
    file = File(network=OWN, networks={"home": Endpoints(chain_stream=("b:1",))})
    assert networks.described("home", file) == ("networks.home", file.networks["home"])
    assert networks.source("home", file) == "chain-grpc"
    assert networks.described("local", file) == ("network", OWN)


def test_a_network_that_nobody_describes_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"no network 'hoem': there are mainnet.*devnet, home;"):
        networks.endpoints("hoem", File(networks={"home": OWN}), "chain-ws")


def written(folder: Path, text: str) -> File:
    path = folder / "collector.toml"
    path.write_text(text)
    return networks.read(str(path))


def test_a_network_may_keep_what_another_has(tmp_path: Path) -> None:
    file = written(
        tmp_path, '[networks.mixed]\nbased_on = "mainnet"\nchain_grpc = ["http://own:9900"]\n'
    )
    mixed, mainnet = file.networks["mixed"], NETWORKS["mainnet"]
    assert mixed.chain_grpc == ("http://own:9900",)
    assert (mixed.indexer, mixed.tls) == (mainnet.indexer, True)


def test_certificates_are_named_from_the_files_own_folder(tmp_path: Path) -> None:
    file = written(tmp_path, '[network]\nca = "ca.pem"\ncertificate = "/etc/own.pem"\n')
    assert file.network is not None
    assert file.network.ca == str(tmp_path / "ca.pem")
    assert file.network.certificate == "/etc/own.pem"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[network]\nrcp = []\n", r"there is no key 'rcp' in \[network\]"),
        (
            "[networks.home]\nrcp = []\n",
            r"there is no key 'rcp' in \[networks\.home\]; did you mean rpc",
        ),
        ("[networks]\nhome = 1\n", r"networks\.home must be a table, not 1"),
        ("network = 1\n", r"network must be a name or a table of endpoints, not 1"),
        ('[network]\ntls = "yes"\n', r"network\.tls must be true or false, not a text"),
        (
            '[networks.home]\nbased_on = "mianet"\n',
            r"networks\.home\.based_on must be one of mainnet, testnet, local, not 'mianet'; did",
        ),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused_with_the_place(
    tmp_path: Path, text: str, sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        written(tmp_path, text)


@pytest.mark.parametrize(
    ("change", "source", "sentence"),
    [
        ({"chain_ws": ["http://a:1"]}, "chain-ws", r"chain_ws: .* begin with ws:// or wss://"),
        ({"rpc": ["a:1"]}, "chain-ws", r"rpc: 'a:1' does not begin with http:// or https://"),
        ({"rpc": ["http://"]}, "chain-ws", r"rpc: 'http://' is not host:port"),
        ({"chain_grpc": ["a"]}, "chain-ws", r"chain_grpc: 'a' is not host:port"),
        ({"chain_grpc": ["a:b"]}, "chain-ws", r"chain_grpc: 'a:b' is not host:port"),
        ({"indexer": ["wss://a:1"]}, "chain-ws", r"indexer: .* neither host:port nor http\(s\)://"),
        ({"chain_stream": []}, "chain-grpc", r"chain_stream is empty, and the source chain-grpc"),
        ({"requests_per_s": -1.0}, "chain-ws", r"requests_per_s: -1.0 is not a number of requests"),
        ({"ca": "/nowhere.pem"}, "chain-ws", r"ca: /nowhere.pem cannot be used: No such file"),
        ({"ca": __file__}, "chain-ws", r"ca: .*: no certificate or crl found; it must be a PEM"),
        ({"key": __file__}, "chain-ws", r"key is given without networks.home.certificate"),
        ({"certificate": __file__}, "chain-ws", r"certificate: .* cannot be used: "),
    ],
)
def test_an_endpoint_that_cannot_be_one_is_refused_with_its_place(
    tmp_path: Path, change: dict[str, object], source: SourceName, sentence: str
) -> None:
    usual: dict[str, object] = {
        "chain_ws": ["wss://a:1/x"],
        "chain_grpc": ["https://a:2"],
        "rpc": ["https://a"],
    }
    lines = [f"{key} = {_toml(value)}" for key, value in (usual | change).items()]
    file = written(tmp_path, "\n".join(["[networks.home]", *lines]))
    with pytest.raises(ConfigError, match=f"^networks.home.{sentence}"):
        networks.endpoints("home", file, source)


def _toml(value: object) -> str:
    return str(value) if isinstance(value, float) else repr(value).replace("'", '"')
