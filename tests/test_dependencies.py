"""What `pip install injective-collector` brings, without an extra: few packages, and no SDK."""

from importlib.metadata import distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def _needed(package: str, found: set[str]) -> set[str]:
    """Follow the declared requirements of an installed package, as this Python needs them."""
    name = canonicalize_name(package)
    if name not in found:
        found.add(name)
        for text in distribution(name).requires or ():
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                _needed(needed.name, found)
    return found


def test_a_plain_install_is_at_most_25_packages_and_none_of_the_sdks() -> None:
    needed = _needed("injective-collector", set())
    assert {"grpcio", "protobuf", "msgspec"} <= needed
    assert len(needed) <= 25, sorted(needed)
    assert not needed & {"injective-py", "web3", "aiohttp", "coincurve", "ecdsa", "pycryptodome"}
