"""
The generated stubs of injective-py, without the rest of it.

``import pyinjective`` loads its wallet and Ethereum code: 1.3 s of CPU and 43 MiB in every
process that does it (measured on 1.16). Binding a bare module under the name first lets
the stubs beneath be imported alone.
"""

import importlib
import importlib.util
import sys
import types
from typing import Any


def load(module: str) -> Any:
    """Import one module under ``pyinjective.proto``, for example ``injective.stream.v2.query_pb2``."""
    if "pyinjective" not in sys.modules:
        spec = importlib.util.find_spec("pyinjective")
        if spec is None:
            raise ModuleNotFoundError("injective-py is not installed")
        bare = types.ModuleType("pyinjective")
        bare.__path__ = list(spec.submodule_search_locations or ())
        bare.__spec__ = spec
        sys.modules["pyinjective"] = bare
    return importlib.import_module(f"pyinjective.proto.{module}")
