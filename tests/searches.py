"""How many examples a search for a counter-example tries."""

import os
from typing import Final

_SHORT: Final = "SHORT_SEARCHES"
"""Set by `tox -e quick`."""


def examples(count: int) -> int:
    """Return how many examples to try: ``count``, or a fifth of it in a quick run."""
    return count // 5 if os.environ.get(_SHORT) else count
