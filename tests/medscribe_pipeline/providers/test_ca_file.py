"""TLS with a certificate authority of one's own: trusted where it is named, and nothing else is then."""

from __future__ import annotations

import ipaddress
import ssl
import threading
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.providers.http import HttpClient
from medscribe_pipeline.providers.intron import open_client
from tests.medscribe_pipeline.providers.intron_cases import settings_for
from tests.medscribe_pipeline.providers.scripted_server import START, FakeClock, http_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Tokens of Intron do not change, so its client asks the warehouse nothing.
NO_WAREHOUSE: Any = None


def certificate(folder: Path, name: str, host: str = "127.0.0.1") -> Path:
    """A self-signed certificate for an address, and its key, in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"medscribe test {name}")])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(START - timedelta(days=3650))
        .not_valid_after(START + timedelta(days=36_500))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


@contextmanager
def tls_server(pem: Path) -> Iterator[str]:
    """A server that answers `{}` to any GET."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: Any) -> None:
            pass

    class Server(HTTPServer):
        def handle_error(self, *_: Any) -> None:
            """A client that refuses our certificate is what some tests want."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    server = Server(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def get(url: str, ca_file: Path | None) -> int:
    clock = FakeClock()
    with HttpClient(
        "clinic", url, http_settings(max_attempts=1), clock=clock, sleep=clock.sleep, ca_file=ca_file
    ) as client:
        return client.get_json("/").status


def test_a_server_is_trusted_by_the_authority_that_is_named(tmp_path: Path) -> None:
    pem = certificate(tmp_path, "clinic")

    with tls_server(pem) as url:
        assert get(url, pem) == 200


@pytest.mark.parametrize("named", [False, True])
def test_any_other_server_is_not(tmp_path: Path, *, named: bool) -> None:
    other = certificate(tmp_path, "other")

    with tls_server(certificate(tmp_path, "clinic")) as url, pytest.raises(ConfigError) as caught:
        get(url, other if named else None)

    assert caught.value.code == "tls_certificate"


def test_the_name_on_the_certificate_counts_too(tmp_path: Path) -> None:
    pem = certificate(tmp_path, "clinic", host="127.0.0.2")

    with tls_server(pem) as url, pytest.raises(ConfigError) as caught:
        get(url, pem)

    assert caught.value.code == "tls_certificate"


@pytest.mark.parametrize("content", [None, b"", b"not a certificate"])
def test_a_ca_file_without_certificates_is_a_setting_to_change(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "Testa-CANARY.pem"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ConfigError) as caught:
        get("https://clinic.example.org", path)

    assert caught.value.code == "ca_file"
    assert caught.value.__context__ is None
    assert "CANARY" not in str(caught.value)


def test_intron_takes_it_from_its_settings(tmp_path: Path) -> None:
    pem = certificate(tmp_path, "clinic")

    with tls_server(pem) as url, open_client(settings_for(base_url=url, ca_file=pem), NO_WAREHOUSE) as client:
        assert client.get_json("/").status == 200
