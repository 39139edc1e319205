"""The environment: which names are ours, and what is not one of them although it looks like it."""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from collector.settings.wording import did_you_mean

_PREFIX: Final = "COLLECTOR_"
_is_of_kubernetes: Final = re.compile(
    r"COLLECTOR_(?:[A-Z0-9_]+_)?(?:SERVICE_(?:HOST|PORT(?:_[A-Z0-9_]+)?)"
    r"|PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)?)"
).fullmatch
"""What Kubernetes and Docker links set in every container beside a service of our name."""


def unknown(environment: Mapping[str, str], known: Iterable[str]) -> str:
    """Say which name of the environment is no option's twin; nothing if all are."""
    names = frozenset(known)
    for name, value in sorted(environment.items()):
        if not name.startswith(_PREFIX) or name in names or not value:
            continue
        if name == "COLLECTOR_VERSION" or _is_of_kubernetes(name):
            continue
        # The prefix, which all have, would make any two alike.
        short = {known.removeprefix(_PREFIX) for known in names}
        meant = did_you_mean(name.removeprefix(_PREFIX), short, prefix=_PREFIX) or "; unset it"
        return f"the environment has {name}, and no option has that name{meant}"
    return ""
