"""Opening a target: what is sent with each way of signing in, and TLS with certificates on both sides."""

from __future__ import annotations

import ssl
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import orjson
import pytest
import trustme
from joserfc.jwk import ECKey

from medscribe_pipeline.ehr.auth import open_http
from medscribe_pipeline.ehr.auth.tls import tls_context
from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.settings import EhrSettings
from tests.medscribe_pipeline.providers.scripted_server import FakeClock, Reply, ScriptedServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SMALL: dict[str, Any] = {"timeout_s": 5, "max_attempts": 2, "backoff_s": 0}
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def server(clean_environment: Path) -> Iterator[ScriptedServer]:
    assert clean_environment
    server = ScriptedServer()
    yield server
    server.close()


def get(target: EhrSettings) -> int:
    clock = FakeClock()
    with open_http(target, None, clock=clock, sleep=clock.sleep) as client:
        return client.get_json("Patient").status


@pytest.mark.parametrize(
    ("settings", "header"),
    [
        ({}, None),
        ({"token": "t-1"}, "Bearer t-1"),
        ({"auth": "bearer", "token": "t-1"}, "Bearer t-1"),
        # RFC 7617 section 2 has the first of these, and in 2.1 a password in UTF-8.
        ({"username": "Aladdin", "password": "open sesame"}, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
        ({"username": "test", "password": "123£"}, "Basic dGVzdDoxMjPCow=="),
        ({"username": "a", "password": "b:c"}, "Basic YTpiOmM="),
    ],
)
def test_what_is_sent_with_each_request(server: ScriptedServer, settings: dict[str, Any], header: str | None) -> None:
    assert get(EhrSettings(base_url=server.url, **SMALL, **settings)) == 200

    assert [seen.headers.get("authorization") for seen in server.seen] == [header]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({}, "MEDSCRIBE_EHR_AUTH"),
        ({"token": "t-1"}, "MEDSCRIBE_EHR_TOKEN"),
        ({"username": "u", "password": "p"}, "MEDSCRIBE_EHR_USERNAME, MEDSCRIBE_EHR_PASSWORD"),
    ],
)
def test_fixed_credentials_that_are_refused_are_not_sent_again(
    server: ScriptedServer, settings: dict[str, Any], named: str
) -> None:
    server.reply(Reply(401))

    with pytest.raises(ConfigError) as caught:
        get(EhrSettings(base_url=server.url, **SMALL, **settings))

    assert (caught.value.code, caught.value.context["setting"]) == ("credentials", named)
    assert len(server.seen) == 1


def test_a_further_target_names_its_own_variables(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDSCRIBE_EHR_STORE_1_BASE_URL", server.url)
    monkeypatch.setenv("MEDSCRIBE_EHR_STORE_1_TOKEN", "t-1")
    server.reply(Reply(403))

    with pytest.raises(ConfigError) as caught:
        get(EhrSettings.named("store-1"))

    assert caught.value.context == {"client": "store-1", "setting": "MEDSCRIBE_EHR_STORE_1_TOKEN"}


def test_a_token_that_cannot_be_sent_names_its_variable(server: ScriptedServer) -> None:
    with pytest.raises(ConfigError) as caught:
        get(EhrSettings(base_url=server.url, token="qxcanary with spaces"))

    assert caught.value.context["setting"] == "MEDSCRIBE_EHR_TOKEN"
    assert "qxcanary" not in str(caught.value)
    assert server.seen == []


def test_without_a_base_url_there_is_nothing_to_open(server: ScriptedServer) -> None:
    with pytest.raises(ConfigError, match="MEDSCRIBE_EHR_BASE_URL is not set"):
        get(EhrSettings())

    assert server.seen == []


def test_opening_sends_nothing(server: ScriptedServer) -> None:
    with open_http(EhrSettings(base_url=server.url, client_id="c", client_secret="s"), None):
        pass

    assert server.seen == []


# TLS


class Certificates:
    """An authority the server is of, and trusts clients of, and one that nobody knows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca, self.stranger = trustme.CA(), trustme.CA()
        self.ca_file = folder / "ca.pem"
        self.ca.cert_pem.write_to_path(self.ca_file)

    def issue(self, name: str, *, ca: trustme.CA | None = None, **dates: Any) -> dict[str, Any]:
        """Settings of a client's certificate and key, in two files."""
        made = (ca or self.ca).issue_cert(f"{name}@clinic.example", **dates)
        cert, key = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        cert.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
        key.touch(mode=0o600)
        made.private_key_pem.write_to_path(key)
        return {"client_cert_file": cert, "client_key_file": key}


@pytest.fixture
def certificates(clean_environment: Path, tmp_path: Path) -> Certificates:
    assert clean_environment
    return Certificates(tmp_path)


@contextmanager
def tls_server(
    certificates: Certificates,
    *,
    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    host: str = "127.0.0.1",
    mutual: bool = True,
) -> Iterator[tuple[str, list[str]]]:
    """A server that gives a token to anybody, and what it saw: paths, and who the client's certificate says it is."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            assert isinstance(self.connection, ssl.SSLSocket)
            shown = self.connection.getpeercert() or {}
            names = [str(pair[1]) for pair in shown.get("subjectAltName", ())]
            seen.append(" ".join([self.path, *names]))
            body = {"access_token": "a-1", "token_endpoint": f"https://127.0.0.1:{port}/token"}
            raw = orjson.dumps(body)
            self.send_response_only(200)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def do_GET(self) -> None:
            self.answer()

        def do_POST(self) -> None:
            self.answer()

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """A client that is refused, or refuses us, is what some tests want."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = version
    certificates.ca.issue_cert(host).configure_cert(context)
    if mutual:
        certificates.ca.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    server = Server(("127.0.0.1", 0), Handler)
    # Shaken hands are for the thread of the connection.
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"https://127.0.0.1:{port}", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])


@VERSIONS
def test_our_certificate_lets_us_in(certificates: Certificates, version: ssl.TLSVersion) -> None:
    with tls_server(certificates, version=version) as (url, seen):
        own = certificates.issue("writer")
        assert get(EhrSettings(base_url=url, **SMALL, ca_file=certificates.ca_file, **own)) == 200

    assert seen == ["/Patient writer@clinic.example"]


def test_certificate_and_key_may_be_one_file(certificates: Certificates) -> None:
    two = certificates.issue("writer")
    one = certificates.folder / "both.pem"
    one.touch(mode=0o600)
    one.write_bytes(two["client_key_file"].read_bytes() + two["client_cert_file"].read_bytes())

    with tls_server(certificates) as (url, seen):
        assert get(EhrSettings(base_url=url, **SMALL, ca_file=certificates.ca_file, client_cert_file=one)) == 200

    assert len(seen) == 1


@VERSIONS
@pytest.mark.parametrize("wrong", ["none", "stranger", "expired"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_certificate_the_server_does_not_take_is_a_setting_to_change(
    certificates: Certificates, version: ssl.TLSVersion, wrong: str, method: str
) -> None:
    own = {
        "none": {},
        "stranger": certificates.issue("stranger", ca=certificates.stranger),
        "expired": certificates.issue("expired", not_before=LONG_AGO, not_after=LONG_AGO + timedelta(days=9)),
    }[wrong]
    clock = FakeClock()

    with tls_server(certificates, version=version) as (url, seen):
        target = EhrSettings(base_url=url, **SMALL, ca_file=certificates.ca_file, **own)
        with (
            open_http(target, None, clock=clock, sleep=clock.sleep) as client,
            pytest.raises(ConfigError) as caught,
        ):
            client.request(method, "Patient", json={} if method == "POST" else None, repeat=method == "GET")

    # A write that failed so was surely not carried out: it is no `Unsettled`.
    assert caught.value.code == "client_certificate"
    assert seen == []


def test_the_token_endpoint_sees_the_certificate_too(certificates: Certificates) -> None:
    own = certificates.issue("writer")

    with tls_server(certificates) as (url, seen):
        target = EhrSettings(
            base_url=url, **SMALL, ca_file=certificates.ca_file, client_id="c", client_secret="s", **own
        )
        assert get(target) == 200

    paths = ["/.well-known/smart-configuration", "/token", "/Patient"]
    assert seen == [f"{path} writer@clinic.example" for path in paths]


@pytest.mark.parametrize("wrong", ["authority", "name", "usual"])
def test_the_server_s_certificate_is_always_checked(certificates: Certificates, wrong: str) -> None:
    other = certificates.folder / "other.pem"
    certificates.stranger.cert_pem.write_to_path(other)
    ca_file = {"authority": other, "name": certificates.ca_file, "usual": None}[wrong]

    host = "127.0.0.2" if wrong == "name" else "127.0.0.1"

    with (
        tls_server(certificates, host=host, mutual=False) as (url, seen),
        pytest.raises(ConfigError) as caught,
    ):
        get(EhrSettings(base_url=url, **SMALL, token="t", ca_file=ca_file))

    assert (caught.value.code, seen) == ("tls_certificate", [])


def test_tls_before_1_2_is_not_spoken(certificates: Certificates) -> None:
    several: list[dict[str, Any]] = [{}, {"ca_file": certificates.ca_file}, certificates.issue("writer")]
    for settings in several:
        context = tls_context(EhrSettings(base_url="https://ehr.example", **settings))

        assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
        assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


def missing(own: dict[str, Any], field: str) -> None:
    own[field].unlink()


def opened_up(own: dict[str, Any], field: str) -> None:
    own[field].chmod(0o640)


def no_pem(own: dict[str, Any], field: str) -> None:
    own[field].write_bytes(b"qxcanary")


def encrypted(own: dict[str, Any], field: str) -> None:
    own[field].write_bytes(ECKey.generate_key("P-256").as_pem(private=True, password="qxcanary"))


def of_another(own: dict[str, Any], field: str) -> None:
    own[field].write_bytes(ECKey.generate_key("P-256").as_pem(private=True))


@pytest.mark.parametrize(
    ("spoil", "field", "code", "told"),
    [
        (missing, "client_cert_file", "client_certificate", "missing"),
        (no_pem, "client_cert_file", "client_certificate", "PEM"),
        (missing, "client_key_file", "private_key", "does not exist"),
        (opened_up, "client_key_file", "private_key", "chmod 600"),
        (no_pem, "client_key_file", "client_certificate", "PEM"),
        (encrypted, "client_key_file", "private_key", "encrypted"),
        (of_another, "client_key_file", "client_certificate", "belong together"),
    ],
)
def test_a_file_that_cannot_be_used_names_its_variable(
    certificates: Certificates, spoil: Callable[[dict[str, Any], str], None], field: str, code: str, told: str
) -> None:
    own = certificates.issue("qxcanary")
    spoil(own, field)

    with pytest.raises(ConfigError) as caught:
        tls_context(EhrSettings(base_url="https://ehr.example", **own))

    error = caught.value
    assert (error.code, error.__context__) == (code, None)
    assert told in error.message
    assert f"MEDSCRIBE_EHR_{field.upper()}" in str(error.context["setting"])
    assert "qxcanary" not in str(error)


def test_a_key_in_the_certificate_s_own_file_is_for_us_only_too(certificates: Certificates) -> None:
    own = certificates.issue("writer")
    own["client_cert_file"].chmod(0o644)

    with pytest.raises(ConfigError, match="chmod 600") as caught:
        tls_context(EhrSettings(base_url="https://ehr.example", client_cert_file=own["client_cert_file"]))

    assert caught.value.context["setting"] == "MEDSCRIBE_EHR_CLIENT_CERT_FILE"


def test_a_ca_file_that_cannot_be_used_names_its_variable(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_ca = certificates.folder / "qxcanary.pem"
    monkeypatch.setenv("SSL_CERT_FILE", str(no_ca))
    for ca_file, named in ((no_ca, "MEDSCRIBE_EHR_CA_FILE"), (None, "SSL_CERT_FILE")):
        with pytest.raises(ConfigError) as caught:
            tls_context(EhrSettings(base_url="https://ehr.example", ca_file=ca_file))

        assert (caught.value.code, caught.value.context["setting"]) == ("ca_file", named)
        assert "qxcanary" not in str(caught.value)
