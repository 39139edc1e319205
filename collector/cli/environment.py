"""The environment: which variables are ours, and which only look like it."""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from collector.settings.wording import did_you_mean

_PREFIX: Final = "COLLECTOR_"
_is_of_kubernetes: Final = re.compile(
    r"COLLECTOR_(?:[A-Z0-9_]+_)?(?:SERVICE_(?:HOST|PORT(?:_[A-Z0-9_]+)?)"
    r"|PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)?)"
).fullmatch
"""Variables that Kubernetes and Docker links set for a service of our name."""


def unknown(environment: Mapping[str, str], known: Iterable[str]) -> str:
    """Return a sentence about a variable that belongs to no option; empty if there is none."""
    names = frozenset(known)
    for name, value in sorted(environment.items()):
        if not name.startswith(_PREFIX) or name in names or not value:
            continue
        if name == "COLLECTOR_VERSION" or _is_of_kubernetes(name):
            continue
        # Without the prefix, which would make any two names similar.
        short = {known.removeprefix(_PREFIX) for known in names}
        meant = did_you_mean(name.removeprefix(_PREFIX), short, prefix=_PREFIX) or "; unset it"
        return f"the environment has {name}, but no option has that name{meant}"
    return ""
