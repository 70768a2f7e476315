"""Which audio URLs may be handed to a provider."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medscribe_pipeline.errors import MedscribeError
from medscribe_pipeline.providers.audio_url import check_audio_url
from medscribe_pipeline.settings import NablaSettings

STRICT = NablaSettings()
LOCAL = NablaSettings(allow_private_audio=True, allow_plain_http_audio=True)


def code_of(url: str, own: NablaSettings = STRICT) -> str | None:
    """The code of the refusal, whose text must not hold the URL; `None` for a URL that may be handed on."""
    refusal: MedscribeError | None = None
    try:
        check_audio_url(url, own)
    except MedscribeError as error:
        refusal = error
    assert url not in str(refusal)
    return refusal.code if refusal else None


@pytest.mark.parametrize(
    "url",
    [
        "https://media.hospital.example/a.wav?signature=x%2By#t",
        "HTTPS://BUCKET_1.storage.example.:8443/a.mp3",
        "https://203.0.112.9/a.wav",
        "https://[2600:1f18::1]/a.wav",
        "https://xn--hpital-0xa.example/a.wav",
        "https://localhost.example/a.wav",
    ],
)
def test_a_public_https_url_may_be_handed_on(url: str) -> None:
    assert code_of(url) is None


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST.",
        "api.localhost",
        "db.internal",
        "nas.local",
        "router.home.arpa",
        "intranet",
        "127.0.0.1",
        "127.1",
        "0x7f000001",
        "2130706433",
        "0177.0.0.1",
        "127.0.0.1.",
        "0.0.0.0",  # noqa: S104  # refused here, nothing is bound
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "240.0.0.1",
        "[::1]",
        "[::]",
        "[fe80::1]",
        "[fd00::1]",
        "[ff02::1]",
        "[::ffff:10.0.0.1]",
        "[2002:7f00:1::]",
        "[64:ff9b::7f00:1]",
        "[2001:0:4136:e378:8000:63bf:80ff:fffe]",
    ],
)
def test_no_spelling_of_a_private_address_passes(host: str) -> None:
    assert code_of(f"https://{host}/a.wav") == "audio_url_private"
    assert code_of(f"https://{host}/a.wav", LOCAL) is None


@given(st.sampled_from([0x7F000000, 0x0A000000, 0xC0A80000, 0xA9FE0000]), st.integers(0, 0xFFFF), st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_private_address_is_one_however_it_is_written(network: int, rest: int, octal: bool) -> None:
    number = network | rest
    first = f"0{number >> 24:o}" if octal else str(number >> 24)
    spellings = [str(IPv4Address(number)), str(number), hex(number), f"{first}.{number & 0xFFFFFF}"]

    assert {code_of(f"https://{host}/a") for host in spellings} == {"audio_url_private"}


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://media.hospital.example/a.wav", "audio_url_scheme"),
        ("ftp://media.hospital.example/a.wav", "audio_url_scheme"),
        ("file:///etc/passwd", "audio_url_scheme"),
        ("//media.hospital.example/a.wav", "audio_url_scheme"),
        ("https://user:secret@media.hospital.example/a.wav", "audio_url_credentials"),
        ("https://media.hospital.example@127.0.0.1/a.wav", "audio_url_credentials"),
        ("https:///a.wav", "audio_url"),
        ("https:a.wav", "audio_url"),
        ("https://media.hospital.example:99999/a.wav", "audio_url"),
        ("https://media.hospital.example:0/a.wav", "audio_url"),
        ("https://a..example/a.wav", "audio_url"),
        ("https://1.2.3.4.5/a.wav", "audio_url"),
        ("https://%31%32%37.0.0.1/a.wav", "audio_url"),
        ("https://media.hospital.example\\@127.0.0.1/", "audio_url"),
        ("https://media.hospital.example/a b.wav", "audio_url"),
        ("https://media.hospital.example/\ta.wav", "audio_url"),
        ("https://１２７.0.0.1/a.wav", "audio_url"),
        ("https://[::1/a.wav", "audio_url"),
    ],
)
def test_what_is_no_safe_url_is_refused_with_its_reason(url: str, code: str) -> None:
    assert code_of(url) == code


def test_plain_http_is_for_test_servers() -> None:
    own = NablaSettings(allow_plain_http_audio=True)

    assert code_of("http://media.hospital.example/a.wav", own) is None
    assert code_of("http://127.0.0.1/a.wav", own) == "audio_url_private"
