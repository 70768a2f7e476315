"""How we speak TLS to a target: whom we trust, and the certificate we show where one is asked for (mutual TLS)."""

from __future__ import annotations

import contextlib
import ssl
from typing import TYPE_CHECKING

import httpx

from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.providers.key_files import KeyFile
from medscribe_pipeline.providers.transport import own_trust

if TYPE_CHECKING:
    from pathlib import Path

    from medscribe_pipeline.settings import EhrSettings

__all__ = ["tls_context"]


def tls_context(target: EhrSettings) -> ssl.SSLContext:
    """Made once for all connections to a target and its token endpoint. Certificates are always checked.

    Raises:
        ConfigError: `ca_file`, `client_certificate` or `private_key`: a file is missing or wrong, or a key is open to
            other users.
    """
    context = _trust(target)
    # Python's own default today; written down, so that no system-wide configuration lowers it.
    context.minimum_version = max(context.minimum_version, ssl.TLSVersion.TLSv1_2)
    if target.client_cert_file is not None:
        _show(context, target.client_cert_file, target)
    return context


def _trust(target: EhrSettings) -> ssl.SSLContext:
    if target.ca_file is not None:
        return own_trust(target.target, target.ca_file, target.variable("ca_file"))
    # The error quotes the path.
    with contextlib.suppress(OSError, ValueError):
        return httpx.create_ssl_context()
    raise ConfigError(
        "The CA file named by the environment cannot be used.",
        code="ca_file",
        context={"client": target.target, "setting": "SSL_CERT_FILE"},
    )


def _show(context: ssl.SSLContext, cert_file: Path, target: EhrSettings) -> None:
    """Gives our certificate to a context."""
    named = "client_cert_file" if target.client_key_file is None else "client_key_file"
    key_file = target.client_key_file or cert_file
    file = KeyFile(key_file, client=target.target, setting=target.variable(named))
    if b"ENCRYPTED" in file.read():
        raise file.unusable("The private key is encrypted; one without pass phrase is needed.")
    problem = "The client certificate or its private key is missing, or is not in PEM format."
    try:
        # Without a password given, OpenSSL would ask on the terminal.
        context.load_cert_chain(cert_file, key_file, password="")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            problem = "The client certificate and the private key do not belong together."
    except (OSError, ValueError):
        pass
    else:
        return
    setting = target.variable("client_cert_file")
    if target.client_key_file is not None:
        setting = f"{setting}, {target.variable('client_key_file')}"
    raise ConfigError(problem, code="client_certificate", context={"client": target.target, "setting": setting})
