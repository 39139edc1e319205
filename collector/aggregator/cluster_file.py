"""The map of the cluster that this cell belongs to, as its host keeps it beside the state."""

from pathlib import Path
from typing import Any

import msgspec

from collector.client.cluster_map import FILE, ClusterMap


def answer(state: str) -> dict[str, Any]:
    """Answer the request ``cluster``: the newest map, or nil outside a cluster."""
    try:
        found = msgspec.json.decode((Path(state) / FILE).read_bytes(), type=ClusterMap)
    except (OSError, msgspec.DecodeError):
        return {"cluster": None}
    return {"cluster": found}
