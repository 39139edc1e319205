"""
The identity of an archive's chain: its id, and hashes of some of its blocks.

A node is checked before its blocks are added. A node of another network, or of a restarted chain
with the same id, is refused by name.
"""

import logging
from pathlib import Path
from typing import Final

from collector.archive.storage.files import Info, write_info
from shards.adapters import registry
from shards.net.nodes import Nodes
from shards.protocol.chain import Chain
from shards.protocol.errors import ConfigError
from shards.protocol.settings import Endpoints
from shards.protocol.text import without_secrets

log = logging.getLogger(__name__)

_HIDDEN: Final = "***"
"""Replaces a secret in an endpoint that is shown."""
_LOOKS: Final = 2
"""The first one may only learn which chain it is; then event providers can be judged too."""


def open_ones(endpoints: Endpoints) -> Endpoints:
    """Return a collector's endpoints, without those that contain hidden secrets."""
    return endpoints.filtered(lambda _, at: _HIDDEN not in at)


async def meet(root: Path, info: Info, endpoints: Endpoints) -> Endpoints:
    """
    Compare the nodes with an archive; return the endpoints without those of another chain.

    The block hashes of the others are stored in the archive.

    Raises:
        ConfigError: If all nodes that answer have another chain than the archive.

    """
    access = registry.open_access(endpoints)
    nodes = Nodes(registry.of_role(endpoints, "rpc"), access, registry.witnesses(endpoints, access))
    nodes.chain = Chain(info.chain_id, 0, tuple(info.marks))
    try:
        for _ in range(_LOOKS):
            await nodes.look()
        if (foreign := nodes.foreign()) and info.chain_id:
            raise ConfigError(
                f"{root}: holds the chain {info.chain_id}, and that is another one: {foreign}; "
                "use a folder of its own"
            )
        refused = {(r.role, r.endpoint) for r in nodes.reports() if r.cause == "foreign"}
    finally:
        await nodes.aclose()
        access.close()
    if nodes.chain.id and nodes.chain.marks != tuple(info.marks):
        info.chain_id, info.marks = nodes.chain.id, list(nodes.chain.marks)
        write_info(root, info)
    kinds = registry.endpoint_kinds()

    def is_kept(name: str, endpoint: str) -> bool:
        role = kinds[name].role if name in kinds else None
        return (role, without_secrets(endpoint)) not in refused

    return endpoints.filtered(is_kept)
