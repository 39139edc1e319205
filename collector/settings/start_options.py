"""
All options of `collector start`: one field each.

The field's name is the key in the configuration file; its annotation gives the type and the
bounds, its default the default, its description the help text. Command-line options and
environment twins are built from it (collector/cli/options.py), the file is checked against it
(collector/settings/config_file.py), and the table in docs/operations.md is compared with it.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, get_args, get_origin

import msgspec

from collector.settings.parts import DEFAULT_PUBLISH, DEFAULT_WEB
from shards.adapters import registry
from shards.protocol.channels import DEFAULT_CHANNELS, NAMES
from shards.protocol.settings import (
    Count,
    CountOrZero,
    LogFormat,
    Positive,
    SourceName,
)

Level = Literal["active", "quiet", "dead"]
"""How active a market is (collector/markets/activity.py)."""
ListedType = Literal["spot", "derivative", "binary"]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
Ratio = Annotated[float, msgspec.Meta(ge=0, le=1)]
MOST_MARKETS: Final = 10_000
"""Of a devnet: the genesis of a million takes hours and all of the memory."""
OfDevnet = Annotated[int, msgspec.Meta(ge=0, le=MOST_MARKETS)]


def _option(
    text: str, *, flag: str = "", metavar: str = "", shown: str = "", choices: tuple[str, ...] = ()
) -> msgspec.Meta:
    """
    Describe an option.

    Args:
        text: The help text.
        flag: The option's name, if it is not the field's with dashes.
        metavar: Placeholder for the value in the help; by default derived from the type.
        shown: The default in words; by default the value itself.
        choices: The accepted values, if the type does not list them.

    """
    return msgspec.Meta(
        description=text,
        extra={"flag": flag, "metavar": metavar, "shown": shown, "choices": choices},
    )


class StartOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of `collector start`, in the order of its help text."""

    network: Annotated[
        str,
        _option(
            "mainnet, testnet: the public endpoints; local: a node of yours with the usual ports; "
            "devnet: one is started for you; or one that the configuration file describes.",
            metavar="NAME",
        ),
    ] = "local"
    markets: Annotated[
        tuple[str, ...],
        _option(
            "Ticker, symbol, a glob of either, or market id; may be repeated.",
            flag="--market",
            metavar="PATTERN",
            shown="all",
        ),
    ] = ()
    types: Annotated[
        tuple[ListedType, ...],
        _option("Only markets of this type; may be repeated.", flag="--type", shown="all"),
    ] = ()
    min_activity: Annotated[
        Level | None,
        _option(
            "Only markets of at least this activity: active ones change, quiet ones have a book or "
            "past trades, dead ones have neither.",
            shown="all",
        ),
    ] = None
    top: Annotated[
        Count | None,
        _option("Only the N most active markets, by traded value.", metavar="N", shown="all"),
    ] = None
    part: Annotated[
        str | None,
        _option(
            "Only part I of N of the chosen markets, later ones too: for N cells that share the "
            "markets (docs/cells.md).",
            metavar="I/N",
            shown="all",
        ),
    ] = None
    shards: Annotated[
        Count, _option("Number of worker processes that share the markets.", metavar="N")
    ] = 1
    source: Annotated[
        SourceName | None,
        _option(
            "Which upstream API to read: a node's WebSocket, the chain stream over gRPC, or the "
            "indexer's streams.",
            choices=registry.names(),
            shown="chain-ws; on mainnet and testnet chain-grpc",
        ),
    ] = None
    per_market: Annotated[
        bool,
        _option(
            "On chain-grpc: one call per market instead of one per shard; costs more, isolates failures."
        ),
    ] = False
    redundancy: Annotated[
        Count,
        _option(
            "On chain-ws and chain-grpc: read N nodes at once. The first copy of each block counts, "
            "and the copies are compared.",
            metavar="N",
        ),
    ] = 1
    channels: Annotated[
        tuple[str, ...],
        _option(
            "What to collect; may be repeated (see 'collector capabilities'). Gaps are always "
            "announced.",
            flag="--channel",
            choices=NAMES,
        ),
    ] = DEFAULT_CHANNELS
    publish: Annotated[
        tuple[str, ...],
        _option(
            "Where subscribers connect, tcp://HOST:PORT or ipc://PATH; requests are answered at "
            "the next port, or PATH.requests. May be repeated.",
            metavar="ENDPOINT",
        ),
    ] = (DEFAULT_PUBLISH,)
    http: Annotated[
        str | None,
        _option(
            "Serve /metrics, /healthz, /readyz, /status and /events there; without HOST on "
            "loopback. Needs the extra web.",
            metavar="HOST:PORT",
            shown="off",
        ),
    ] = None
    ready_coverage: Annotated[
        Ratio, _option("Coverage from which /readyz succeeds.", metavar="X")
    ] = 0.99
    metrics_markets: Annotated[
        CountOrZero,
        _option("Number of markets with their own metrics, a few series each.", metavar="N"),
    ] = 300
    web: Annotated[
        str | None,
        _option(
            "Serve a web page that shows the collector live; without an address at "
            f"{DEFAULT_WEB}. Needs the extra web.",
            metavar="[HOST:PORT]",
            shown="off",
        ),
    ] = None
    web_allow_remote: Annotated[
        bool,
        _option("Allow --web at an address that other machines can reach. There is no password."),
    ] = False
    keys: Annotated[
        str | None,
        _option(
            "This collector's key file ('collector keys new'): frames and answers are then "
            "encrypted, for authorized keys only, and HTTP requires their tokens.",
            metavar="FILE",
            shown="none: loopback only",
        ),
    ] = None
    authorized_keys: Annotated[
        str | None,
        _option(
            "The keys that may connect ('collector keys authorize'); changes apply while it runs.",
            metavar="FILE",
            shown="authorized_keys.toml beside the key file",
        ),
    ] = None
    admin: Annotated[
        str | None,
        _option(
            "Accept admin commands at tcp://HOST:PORT, too, from keys with the role operate. "
            "Needs --keys.",
            metavar="ENDPOINT",
            shown="only from the same user on this host",
        ),
    ] = None
    tls_cert: Annotated[
        str | None,
        _option(
            "Certificate chain, PEM, for --http and --web; reloaded when it changes.",
            metavar="FILE",
            shown="no TLS",
        ),
    ] = None
    tls_key: Annotated[
        str | None, _option("Its private key, PEM.", metavar="FILE", shown="no TLS")
    ] = None
    insecure: Annotated[
        bool,
        _option(
            "Allow addresses that other machines can reach without keys or TLS: anyone there can "
            "read everything.",
        ),
    ] = False
    record: Annotated[
        str,
        _option(
            "Record everything collected into this archive, in a separate process. Needs the "
            "extra archive.",
            metavar="DIR",
            shown="off",
        ),
    ] = ""
    devnet_spot: Annotated[OfDevnet, _option("Spot markets of the devnet.", metavar="N")] = 12
    devnet_perp: Annotated[OfDevnet, _option("Perpetual markets of the devnet.", metavar="N")] = 4
    devnet_options: Annotated[
        tuple[str, ...],
        _option(
            "Another option for the devnet, for example --devnet-option=--quiet-markets=4; may be "
            "repeated.",
            flag="--devnet-option",
            metavar="OPTION",
            shown="none",
        ),
    ] = ()
    duration: Annotated[
        Positive | None,
        _option("Stop after SECONDS.", metavar="SECONDS", shown="run until stopped"),
    ] = None
    min_coverage: Annotated[
        Ratio | None,
        _option("Exit with 4 if coverage is below this at the end.", metavar="X", shown="any"),
    ] = None
    state: Annotated[
        str | None,
        _option(
            "Folder for the state between runs: how far each market's blocks are accounted for. "
            "The next start continues there. 'none' keeps nothing.",
            metavar="DIR",
            shown="a folder of the network and endpoint in $XDG_STATE_HOME/collector; of a devnet "
            "of its own none",
        ),
    ] = None
    summary: Annotated[
        str | None,
        _option(
            "Write the summary, one JSON object, here at the end; - is stdout.",
            metavar="FILE",
            shown="not written",
        ),
    ] = None
    log_level: Annotated[LogLevel, _option("Least level of log lines on stderr.")] = "INFO"
    log_format: Annotated[
        LogFormat, _option("Format of log lines: text for people, or one JSON object per line.")
    ] = "text"


class OptionRow(msgspec.Struct, frozen=True):
    """One option, as the command line, the file and the documentation need it."""

    name: str
    """Name of the field, which is the key in the file."""
    flag: str
    type: Any
    """The annotation, with its bounds."""
    default: Any
    help: str
    metavar: str
    shown_default: str
    choices: tuple[str, ...]

    @property
    def is_flag(self) -> bool:
        """Whether the option takes no value."""
        return isinstance(self.default, bool)

    @property
    def is_list(self) -> bool:
        """Whether the option may be repeated."""
        return isinstance(self.default, tuple)

    @property
    def twin(self) -> str:
        """Name its environment twin."""
        return twin_of("start", self.flag)


def twin_of(command: str, flag: str) -> str:
    """Name the environment twin of a command's option: ``COLLECTOR_START_SHARDS``."""
    return f"COLLECTOR_{command}_{flag.lstrip('-')}".replace("-", "_").upper()


def _row(field: msgspec.structs.FieldInfo) -> OptionRow:
    notes: msgspec.Meta = field.type.__metadata__[-1]
    extra: Mapping[str, Any] = notes.extra or {}
    return OptionRow(
        name=field.name,
        flag=extra["flag"] or f"--{field.name.replace('_', '-')}",
        type=field.type,
        default=field.default,
        help=notes.description or "",
        metavar=extra["metavar"],
        shown_default=extra["shown"] or _in_words(field.default),
        choices=extra["choices"] or _choices(field.type),
    )


def _choices(annotation: Any) -> tuple[str, ...]:
    """Return the words that a type accepts, in the order of their definition."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return next(filter(None, map(_choices, get_args(annotation))), ())


def _in_words(default: Any) -> str:
    if isinstance(default, bool):
        return "off"
    if isinstance(default, tuple):
        return ", ".join(default)
    return str(default)


ROWS: Final[Mapping[str, OptionRow]] = {
    field.name: _row(field) for field in msgspec.structs.fields(StartOptions)
}
"""By field name, in the order of the help text."""
