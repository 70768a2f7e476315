from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import httpx
import pytest

from medscribe_pipeline.errors import ConfigError, Deferred, MedscribeError, ProviderContractError, Retriable
from medscribe_pipeline.providers.answers import Answer
from medscribe_pipeline.providers.retry import (
    Caller,
    CredentialsError,
    Refused,
    Unsettled,
    judge_exception,
    judge_status,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
READ = Caller("clinic", "MEDSCRIBE_CLINIC_TOKEN", repeat=True, throttle_is_refusal=False, max_wait_s=60)
WRITE = Caller("clinic", "MEDSCRIBE_CLINIC_TOKEN", repeat=False, throttle_is_refusal=False, max_wait_s=60)
VOUCHED = Caller("clinic", "MEDSCRIBE_CLINIC_TOKEN", repeat=False, throttle_is_refusal=True, max_wait_s=60)

# exception, (error, code, again) of a read, the same of a write
EXCEPTIONS: list[tuple[type[Exception], tuple[type[MedscribeError], str, bool], tuple[type[MedscribeError], str, bool]]]
EXCEPTIONS = [
    (httpx.PoolTimeout, (Retriable, "timeout", True), (Retriable, "timeout", True)),
    (httpx.ConnectTimeout, (Retriable, "timeout", True), (Retriable, "timeout", True)),
    (httpx.ReadTimeout, (Retriable, "timeout", True), (Unsettled, "timeout", False)),
    (httpx.WriteTimeout, (Retriable, "timeout", True), (Unsettled, "timeout", False)),
    (httpx.TimeoutException, (Retriable, "timeout", True), (Unsettled, "timeout", False)),
    (httpx.ConnectError, (Retriable, "unreachable", True), (Retriable, "unreachable", True)),
    (httpx.ProxyError, (Retriable, "unreachable", True), (Retriable, "unreachable", True)),
    (httpx.ReadError, (Retriable, "disconnected", True), (Unsettled, "disconnected", False)),
    (httpx.WriteError, (Retriable, "disconnected", True), (Unsettled, "disconnected", False)),
    (httpx.CloseError, (Retriable, "disconnected", True), (Unsettled, "disconnected", False)),
    (httpx.NetworkError, (Retriable, "disconnected", True), (Unsettled, "disconnected", False)),
    (httpx.RemoteProtocolError, (Retriable, "disconnected", True), (Unsettled, "disconnected", False)),
    (httpx.DecodingError, (ProviderContractError, "undecodable", True), (Unsettled, "undecodable", False)),
    (httpx.LocalProtocolError, (ConfigError, "request", False), (ConfigError, "request", False)),
    (httpx.UnsupportedProtocol, (ConfigError, "request", False), (ConfigError, "request", False)),
    (httpx.InvalidURL, (ConfigError, "request", False), (ConfigError, "request", False)),
    (httpx.ProtocolError, (ProviderContractError, "protocol", False), (Unsettled, "protocol", False)),
    (httpx.TransportError, (ProviderContractError, "protocol", False), (Unsettled, "protocol", False)),
    (httpx.TooManyRedirects, (ProviderContractError, "protocol", False), (Unsettled, "protocol", False)),
    (httpx.RequestError, (ProviderContractError, "protocol", False), (Unsettled, "protocol", False)),
    (httpx.HTTPError, (ProviderContractError, "protocol", False), (Unsettled, "protocol", False)),
]


@pytest.mark.parametrize(("kind", "read", "write"), EXCEPTIONS)
def test_every_exception_of_httpx_has_its_meaning(
    kind: type[Exception],
    read: tuple[type[MedscribeError], str, bool],
    write: tuple[type[MedscribeError], str, bool],
) -> None:
    for caller, (error, code, again) in ((READ, read), (WRITE, write)):
        failure = judge_exception(kind("CANARY"), caller)

        assert (type(failure.error), failure.error.code, failure.again) == (error, code, again)
        assert "CANARY" not in f"{failure.error} {failure.error!r}"


def _tree(kind: type[Exception]) -> Iterator[type[Exception]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _tree(child)


def test_no_exception_of_httpx_is_missing_in_the_table() -> None:
    # `HTTPStatusError` comes only from `raise_for_status`, which nobody calls.
    ours = {kind for kind, *_ in EXCEPTIONS}

    missing = {kind for kind in _tree(httpx.HTTPError) if kind.__module__.startswith("httpx")} - ours

    assert missing == {httpx.HTTPStatusError}


def test_an_untrusted_certificate_is_not_asked_again() -> None:
    error = httpx.ConnectError("CANARY")
    error.__cause__ = OSError()
    error.__cause__.__context__ = ssl.SSLCertVerificationError("CANARY")

    failure = judge_exception(error, READ)

    assert isinstance(failure.error, ConfigError)
    assert (failure.error.code, failure.again) == ("tls_certificate", False)


# status, (error, code, again) of a read, the same of a write
STATUSES: list[tuple[int, tuple[type[MedscribeError], str, bool], tuple[type[MedscribeError], str, bool]]] = [
    (300, (ProviderContractError, "redirect", False), (Unsettled, "redirect", False)),
    (303, (ProviderContractError, "redirect", False), (Unsettled, "redirect", False)),
    (307, (ProviderContractError, "redirect", False), (ProviderContractError, "redirect", False)),
    (308, (ProviderContractError, "redirect", False), (ProviderContractError, "redirect", False)),
    (400, (Refused, "rejected", False), (Refused, "rejected", False)),
    (401, (CredentialsError, "credentials", False), (CredentialsError, "credentials", False)),
    (403, (CredentialsError, "credentials", False), (CredentialsError, "credentials", False)),
    (404, (Refused, "not_found", False), (Refused, "not_found", False)),
    (408, (Retriable, "timeout", True), (Unsettled, "timeout", False)),
    (409, (Refused, "rejected", False), (Refused, "rejected", False)),
    (412, (Refused, "rejected", False), (Refused, "rejected", False)),
    (422, (Refused, "rejected", False), (Refused, "rejected", False)),
    (425, (Retriable, "timeout", True), (Unsettled, "timeout", False)),
    (429, (Retriable, "throttled", True), (Unsettled, "throttled", False)),
    (500, (Retriable, "server_error", True), (Unsettled, "server_error", False)),
    (502, (Retriable, "server_error", True), (Unsettled, "server_error", False)),
    (503, (Retriable, "server_error", True), (Unsettled, "server_error", False)),
    (504, (Retriable, "server_error", True), (Unsettled, "server_error", False)),
    (599, (Retriable, "server_error", True), (Unsettled, "server_error", False)),
]


@pytest.mark.parametrize(("status", "read", "write"), STATUSES)
def test_every_status_has_its_meaning(
    status: int,
    read: tuple[type[MedscribeError], str, bool],
    write: tuple[type[MedscribeError], str, bool],
) -> None:
    answer = Answer(status, {}, {"name": "CANARY"}, NOW)

    for caller, (error, code, again) in ((READ, read), (WRITE, write)):
        failure = judge_status(answer, caller, NOW)

        assert (type(failure.error), failure.error.code, failure.again) == (error, code, again)
        assert failure.error.status == status
        assert "CANARY" not in f"{failure.error} {failure.error!r}"


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("caller", "retry_after", "error", "again"),
    [
        (READ, "60", Retriable, True),
        (READ, "61", Deferred, False),
        (VOUCHED, "60", Retriable, True),
        (VOUCHED, "61", Deferred, False),
        (WRITE, "60", Unsettled, False),
        (WRITE, "61", Unsettled, False),
    ],
)
def test_a_throttled_request_waits_or_defers_when_it_may_be_sent_again(
    status: int, caller: Caller, retry_after: str, error: type[MedscribeError], *, again: bool
) -> None:
    failure = judge_status(Answer(status, {"retry-after": retry_after}, None, NOW), caller, NOW)

    assert (type(failure.error), failure.error.code, failure.again) == (error, "throttled", again)
    assert (failure.throttled, failure.delay_s) == (True, float(retry_after))


def test_a_deferral_says_when_by_our_clock_even_if_the_server_lives_in_another_year() -> None:
    server_time = datetime(2031, 1, 1, tzinfo=UTC)
    headers = {"retry-after": "Wed, 01 Jan 2031 01:00:00 GMT"}

    failure = judge_status(Answer(429, headers, None, NOW, server_time), READ, NOW)

    assert isinstance(failure.error, Deferred)
    assert failure.error.until == NOW + timedelta(hours=1)


def test_refused_credentials_name_the_client_and_the_setting() -> None:
    failure = judge_status(Answer(401, {}, None, NOW), READ, NOW)

    assert failure.error.context == {"client": "clinic", "setting": "MEDSCRIBE_CLINIC_TOKEN"}
