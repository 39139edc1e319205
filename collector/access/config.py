"""Turn options into the access configuration of each process: keys, TLS, open addresses."""

from collections.abc import Callable, Iterable
from pathlib import Path

from collector.access import authorized_file, refusal, tls
from collector.access.key_files import Keys
from collector.settings.parts import AccessConfig, AccessLimits, TlsConfig
from collector.settings.start_options import StartOptions
from shards.protocol.errors import ConfigError


def authorized_path(keys: str | None, given: str | None) -> str:
    """Return the path of the authorized keys: as given, or beside the key file; empty without keys."""
    if given or not keys:
        return given or ""
    return str(Path(keys).parent / authorized_file.FILE)


def of_publisher(
    publish: Iterable[str],
    *,
    keys: str | None,
    authorized_keys: str | None,
    insecure: bool,
    limits: AccessLimits = AccessLimits(),  # noqa: B008 - it does not change
    more: Iterable[str] = (),
) -> AccessConfig:
    """Return the access configuration of a publisher; ``more`` are other addresses open to all."""
    is_open = [one for one in publish if not keys and insecure and refusal.is_open(one)]
    return AccessConfig(
        keys=keys or "",
        authorized=authorized_path(keys, authorized_keys) if keys else "",
        insecure=(*is_open, *more),
        limits=limits,
    )


def of_start(options: StartOptions, limits: AccessLimits) -> AccessConfig:
    """Return the access configuration of `collector start`."""
    http = [options.http] if options.http and options.insecure else []
    if options.web and (options.insecure or options.web_allow_remote):
        http.append(options.web)
    is_safe = bool(options.keys and options.tls_cert)
    return of_publisher(
        options.publish,
        keys=options.keys,
        authorized_keys=options.authorized_keys,
        insecure=options.insecure,
        limits=limits,
        more=[one for one in http if not is_safe and refusal.is_open(one)],
    )


def tls_of(options: StartOptions) -> TlsConfig:
    """Return the TLS configuration of `collector start`."""
    # Tokens protect nothing if anyone can read them on the network.
    is_asked = options.keys and not (options.insecure and not options.tls_cert)
    return TlsConfig(
        certificate=options.tls_cert or "",
        key=options.tls_key or "",
        authorized=authorized_path(options.keys, options.authorized_keys) if is_asked else "",
    )


def check_keys(keys: str | None, authorized_keys: str | None) -> None:
    """
    Check a publisher's key files before anything starts.

    Raises:
        ConfigError: If one of the files cannot be used, or is missing.

    """
    if not keys:
        if authorized_keys:
            raise ConfigError("--authorized-keys needs --keys: without --keys anyone may connect")
        return
    Keys.read(keys)
    path = Path(authorized_path(keys, authorized_keys))
    if not path.exists():
        raise ConfigError(
            f"{path} is missing, so no key could connect: 'collector keys authorize "
            f"--file {path} …' makes it"
        )
    authorized_file.read(path)


def check_start(options: StartOptions, origin: Callable[[str], str]) -> None:
    """
    Refuse addresses that would be open to other machines by accident.

    Raises:
        ConfigError: If there is such an address, or keys or certificate cannot be used.

    """
    check_keys(options.keys, options.authorized_keys)
    if options.tls_cert or options.tls_key:
        tls.check(options.tls_cert or "", options.tls_key or "")
    if options.admin:
        _check_admin(options.admin, origin("admin"), has_keys=bool(options.keys))
    if options.insecure:
        return
    has_keys, has_tls = bool(options.keys), bool(options.tls_cert)
    for endpoint in options.publish:
        if said := refusal.of_publisher(endpoint, origin("publish"), has_keys=has_keys):
            raise ConfigError(said)
    if options.http and (
        said := refusal.of_http(options.http, origin("http"), has_keys=has_keys, has_tls=has_tls)
    ):
        raise ConfigError(said)


def _check_admin(endpoint: str, origin: str, *, has_keys: bool) -> None:
    if not has_keys:
        raise ConfigError(
            f"{origin} {endpoint} needs --keys: anyone who reached it could send admin commands"
        )
    if not endpoint.startswith("tcp://"):
        raise ConfigError(
            f"{origin} {endpoint} must be tcp://HOST:PORT: on this host there is one already"
        )
