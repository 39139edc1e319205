"""TLS for HTTP: check the certificate before anything starts, and reload it when it is renewed."""

import asyncio
import logging
import os
import ssl
from pathlib import Path
from typing import Any, Final

from collector.access.key_files import read_guarded
from collector.settings.parts import TlsConfig
from shards.protocol.errors import ConfigError

log = logging.getLogger(__name__)

_LOOK_S: Final = 30.0


def check(certificate: str, key: str) -> None:
    """
    Check a certificate and its key before anything starts.

    Raises:
        ConfigError: If one cannot be read, others may read the key, or they do not fit.

    """
    paths = ((certificate, "--tls-cert"), (key, "--tls-key"))
    for path, option in paths:
        if not path:
            raise ConfigError(f"{option} is missing: TLS needs a certificate and its key")
    for path, option in paths:
        if not Path(path).is_file():
            raise ConfigError(f"{option} {path} is no file")
    read_guarded(Path(key), secret=True)
    try:
        _load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), certificate, key)
    except (OSError, ssl.SSLError) as error:
        reason = getattr(error, "reason", None) or error.strerror or "not PEM"
        raise ConfigError(
            f"--tls-cert {certificate} and --tls-key {key} cannot be used: {reason}"
        ) from None


def _load(context: ssl.SSLContext, certificate: str, key: str) -> None:
    # Without a function OpenSSL would ask the terminal.
    context.load_cert_chain(certificate, key, password=lambda: "")


def of_server(tls: TlsConfig) -> dict[str, Any]:
    """Return uvicorn's TLS settings; empty without a certificate."""
    if not tls.certificate:
        return {}
    return {"ssl_certfile": tls.certificate, "ssl_keyfile": tls.key}


async def follow(tls: TlsConfig, context: ssl.SSLContext | None) -> None:
    """Use a renewed certificate for new connections; never returns."""
    seen = _version(tls)
    while True:
        await asyncio.sleep(_LOOK_S)
        if context is None or (version := _version(tls)) == seen:
            continue
        try:
            _load(context, tls.certificate, tls.key)
        except (OSError, ssl.SSLError) as error:
            log.error("the renewed certificate %s cannot be used: %s", tls.certificate, error)
        else:
            log.info("the certificate %s was renewed", tls.certificate)
        seen = version


def _version(tls: TlsConfig) -> tuple[float, ...]:
    found = []
    for path in filter(None, (tls.certificate, tls.key)):
        try:
            found.append(os.stat(path).st_mtime)
        except OSError:
            found.append(0.0)
    return tuple(found)
