"""Check the key file, the authorized keys, and the certificate."""

from collections.abc import Iterator
from pathlib import Path

from collector.access import authorized_file, config as access_config, refusal, tls
from collector.access.key_files import Keys
from collector.doctor.findings import Finding, bad, fine, note
from collector.settings.start_options import StartOptions
from shards.protocol.errors import ConfigError


def keys(options: StartOptions) -> Iterator[Finding]:
    """Check the files that would be read, and which addresses would be open without them."""
    for said in filter(None, _open(options)):
        yield (
            note("keys", f"with --insecure {said.partition(': ')[0]}")
            if (options.insecure)
            else bad("keys", said)
        )
    if options.keys:
        yield _own(options.keys)
        yield _authorized(
            Path(access_config.authorized_path(options.keys, options.authorized_keys))
        )
    if options.tls_cert or options.tls_key:
        yield _certificate(options.tls_cert or "", options.tls_key or "")


def _open(options: StartOptions) -> Iterator[str]:
    """Say which addresses `start` would refuse."""
    has_keys, has_tls = bool(options.keys), bool(options.tls_cert)
    for endpoint in options.publish:
        yield refusal.of_publisher(endpoint, "--publish", has_keys=has_keys)
    if options.http:
        yield refusal.of_http(options.http, "--http", has_keys=has_keys, has_tls=has_tls)
    if options.web and not options.web_allow_remote:
        yield refusal.of_http(
            options.web, "--web", has_keys=has_keys, has_tls=has_tls, allow="--web-allow-remote"
        )


def _own(path: str) -> Finding:
    try:
        found = Keys.read(path)
    except ConfigError as error:
        return bad("keys", str(error))
    return fine("keys", f"{path} is the key of {found.name or 'this collector'}")


def _authorized(path: Path) -> Finding:
    if not path.exists():
        return note("keys", f"{path} is missing, so no key may connect: 'collector keys authorize'")
    try:
        found = authorized_file.read(path)
    except ConfigError as error:
        return bad("keys", str(error))
    count = len(found.keys)
    if not count:
        return note("keys", f"{path} has no keys: add some with 'collector keys authorize'")
    return fine("keys", f"{path} authorizes {count} key{'s' * (count != 1)}")


def _certificate(certificate: str, key: str) -> Finding:
    try:
        tls.check(certificate, key)
    except ConfigError as error:
        return bad("keys", str(error))
    return fine("keys", f"{certificate} and its key fit together")
