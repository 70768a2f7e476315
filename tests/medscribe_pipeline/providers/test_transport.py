from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import httpx
import pytest

from medscribe_pipeline.errors import ConfigError, ProviderContractError
from medscribe_pipeline.providers import transport
from medscribe_pipeline.providers.transport import BodyTooLargeError, Lanes, join_url, read_body
from tests.medscribe_pipeline.providers.scripted_server import http_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def trickle() -> Iterator[bytes]:
    """A body that never ends, a byte at a time."""
    for _ in range(1_000_000):
        yield b"x"


def test_a_body_that_trickles_for_ever_ends_although_no_byte_is_late() -> None:
    looks = iter(range(0, 10_000, 10))

    with pytest.raises(httpx.ReadTimeout):
        read_body(
            httpx.Response(200, content=trickle()), max_bytes=10**9, patience_s=100, monotonic=lambda: next(looks)
        )

    assert next(looks) == 120


def test_reading_stops_at_the_ceiling_not_at_the_end() -> None:
    taken = 0

    def counted() -> Iterator[bytes]:
        nonlocal taken
        for chunk in trickle():
            taken += 1
            yield chunk

    with pytest.raises(BodyTooLargeError):
        read_body(httpx.Response(200, content=counted()), max_bytes=50, patience_s=1, monotonic=lambda: 0)

    assert taken == 51


@pytest.mark.parametrize("base_url", ["", "clinic", "http://", "http://127.0.0.1:port", "http:///path"])
def test_what_is_no_url_is_a_setting_to_change(base_url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Lanes("clinic", base_url, http_settings())

    assert caught.value.code == "base_url"
    assert caught.value.__context__ is None


def test_a_ca_file_that_is_not_there_is_a_setting_to_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nonexistent/ca.pem")

    with pytest.raises(ConfigError) as caught:
        Lanes("clinic", "https://clinic.example.org", http_settings())

    assert "nonexistent" not in str(caught.value)


def test_the_usual_authorities_are_read_once_for_clients_that_speak_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made: list[ssl.SSLContext] = []

    def create() -> ssl.SSLContext:
        made.append(ssl.create_default_context())
        return made[-1]

    monkeypatch.setattr(httpx, "create_ssl_context", create)
    transport._usual_trust.cache_clear()
    modern = http_settings().model_copy(update={"http2": True})

    for settings in (http_settings(), http_settings(), modern, modern):
        Lanes("clinic", "https://clinic.example.org", settings).close()
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    Lanes("clinic", "https://clinic.example.org", modern).close()

    transport._usual_trust.cache_clear()
    assert len(made) == 3


def test_a_path_too_strange_for_a_url_is_a_broken_contract() -> None:
    with pytest.raises(ProviderContractError) as caught:
        join_url("https://clinic.example.org", "/notes/" + "x" * 70_000, [])

    assert caught.value.code == "path"
