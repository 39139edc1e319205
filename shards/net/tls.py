"""TLS for gRPC and WebSockets: trusted certificates, and our client certificate."""

import ssl
from pathlib import Path
from typing import Any

from shards.protocol.errors import ConfigError
from shards.protocol.settings import Endpoints


def ssl_context(network: Endpoints, place: str = "network") -> ssl.SSLContext:
    """
    Create the TLS context for WebSockets and HTTP; `place` is the setting's path in the config.

    Raises:
        ConfigError: If a file cannot be read or has the wrong content.

    """
    context = _trusting(network.ca, place)
    if network.certificate:
        try:
            context.load_cert_chain(network.certificate, network.key or None)
        except OSError as error:
            named = f"{network.certificate} with the key {network.key or 'in it'}"
            raise ConfigError(
                f"{place}.certificate: {named} cannot be used: {_reason(error)}; "
                "it must be a PEM certificate, and its key the matching private key"
            ) from None
    elif network.key:
        raise ConfigError(f"{place}.key is given without {place}.certificate")
    return context


def _trusting(ca: str, place: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca or None)
    except OSError as error:
        raise ConfigError(
            f"{place}.ca: {ca} cannot be used: {_reason(error)}; "
            "it must be a PEM file of trusted certificates"
        ) from None


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "not PEM").replace("_", " ").lower()
    return error.strerror or str(error)


def credentials(network: Endpoints) -> Any:
    """
    Create the credentials for gRPC channels.

    Raises:
        ConfigError: If a file cannot be read or has the wrong content.

    """
    import grpc

    if network.ca or network.certificate or network.key:
        # gRPC accepts any bytes here, and then connects to no server.
        ssl_context(network)
    return grpc.ssl_channel_credentials(
        root_certificates=_read(network.ca),
        private_key=_read(network.key or network.certificate),
        certificate_chain=_read(network.certificate),
    )


def _read(path: str) -> bytes | None:
    return Path(path).read_bytes() if path else None
