"""What a failure means: which exception of httpx and which status becomes which error, and what may be sent again.

Two questions decide. Can the same request ever succeed (else there is nothing to retry)? And did it surely not
take effect (else only a request that may be repeated is sent again)? The answers are the two tables below.

| what happened | repeatable request | request that may take effect only once |
|---|---|---|
| never left us (no connection, none free, bad proxy) | tried again, then `Retriable` | tried again, then `Retriable` |
| refused for now (429; 503 with `Retry-After`) | held back, tried again | the same, or `Unsettled` (see `Caller`) |
| cut off, timed out, 408, 425, 5xx, unreadable 2xx | tried again, then `Retriable` or a contract error | `Unsettled` |
| 401, 403 | `CredentialsError` | `CredentialsError` |
| any other 4xx | `Refused` | `Refused` |
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING

import httpx

from medscribe_pipeline.errors import ConfigError, Deferred, MedscribeError, ProviderContractError, Rejected, Retriable
from medscribe_pipeline.providers.answers import rate_limit_delay_s, retry_after_s

if TYPE_CHECKING:
    from datetime import datetime

    from medscribe_pipeline.providers.answers import Answer

__all__ = [
    "Caller",
    "CredentialsError",
    "Failure",
    "Refused",
    "Unsettled",
    "judge_exception",
    "judge_status",
    "unreadable",
]


class Refused(Rejected):
    """A 4xx. `answer` holds the parsed body for who needs it; it may name a patient and is never printed."""

    def __init__(self, message: str, *, answer: Answer, client: str, code: str) -> None:
        super().__init__(message, code=code, status=answer.status, context={"client": client})
        self.answer = answer


class CredentialsError(ConfigError):
    """A 401 that renewal did not cure, or a 403. `answer` as in `Refused`."""

    def __init__(self, *, answer: Answer, client: str, hint: str) -> None:
        super().__init__(
            "The server refused our credentials; check the setting named here and what the account may do.",
            code="credentials",
            status=answer.status,
            context={"client": client, "setting": hint} if hint else {"client": client},
        )
        self.answer = answer


class Unsettled(Retriable):
    """A request that may take effect only once was sent, and nothing proves whether it did.

    It must not be sent again before somebody has looked. Every other `Retriable` of a request with
    `repeat=False` means that it surely did not take effect. `answer` as in `Refused`, where there was one that
    could be read: it may say more than its status.
    """

    answer: Answer | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """What judging needs to know about the request and who sends it.

    Attributes:
        client: Name of the client, for messages.
        hint: The setting to check when credentials are refused.
        repeat: The request may be sent twice without harm.
        throttle_is_refusal: The caller vouches that 429, and 503 with `Retry-After`, mean "nothing was done".
        max_wait_s: Longest wait a server may ask for.
    """

    client: str
    hint: str
    repeat: bool
    throttle_is_refusal: bool
    max_wait_s: float


@dataclass(frozen=True, slots=True)
class Failure:
    """One try that failed.

    Attributes:
        error: What the caller gets when this was the last try.
        again: The same request may be sent again.
        throttled: The server asked for quiet: all threads hold back, not only this one.
        delay_s: For how long, where it said.
    """

    error: MedscribeError
    again: bool = False
    throttled: bool = False
    delay_s: float | None = None


@dataclass(frozen=True, slots=True)
class _Verdict:
    """One line of the table: `unsent` means the request surely did not reach the application."""

    code: str
    message: str
    unsent: bool = False


_SILENT = "The server did not answer in time."
_CUT = "The connection broke before the answer was complete."

# The first class that fits wins: narrow ones stand above their parents.
_TEMPORARY: tuple[tuple[type[Exception], _Verdict], ...] = (
    (httpx.PoolTimeout, _Verdict("timeout", "No connection became free in time.", unsent=True)),
    (httpx.ConnectTimeout, _Verdict("timeout", "No connection could be made in time.", unsent=True)),
    (httpx.TimeoutException, _Verdict("timeout", _SILENT)),
    (httpx.ConnectError, _Verdict("unreachable", "No connection could be made.", unsent=True)),
    (httpx.ProxyError, _Verdict("unreachable", "The proxy refused to connect us.", unsent=True)),
    (httpx.NetworkError, _Verdict("disconnected", _CUT)),
    (httpx.RemoteProtocolError, _Verdict("disconnected", _CUT)),
)
# As OpenSSL spells them (RFC 8446 section 6.2). TLS 1.2 has no better word than a failed handshake for a certificate
# that is missing.
_CERTIFICATE_ALERTS = ("CERTIFICATE", "UNKNOWN_CA", "HANDSHAKE_FAILURE")
_MALFORMED = (httpx.LocalProtocolError, httpx.UnsupportedProtocol, httpx.InvalidURL, UnicodeError)
_BUSY = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY})


def judge_exception(error: Exception, caller: Caller) -> Failure:
    """Classifies what httpx raised. The result has no link to `error`, which may print URLs and headers."""
    context = {"client": caller.client}
    if isinstance(error, _MALFORMED):
        return Failure(
            ConfigError(
                "The request could not be formed; look for stray characters in the base URL and the credentials.",
                code="request",
                context=context,
            )
        )
    if isinstance(error, httpx.DecodingError):
        return unreadable("undecodable", "The answer is not compressed the way it says.", caller)
    if isinstance(error, httpx.ConnectError) and _is_untrusted(error):
        return Failure(
            ConfigError(
                "The server's TLS certificate is not trusted; check the base URL, or point SSL_CERT_FILE to your CA.",
                code="tls_certificate",
                context=context,
            )
        )
    if _wants_certificate(error):
        # The handshake failed on the server's side, so it has not looked at the request.
        return Failure(
            ConfigError(
                "The server refused the TLS handshake: it wants a client certificate, or does not accept ours.",
                code="client_certificate",
                context=context,
            )
        )
    for kind, verdict in _TEMPORARY:
        if isinstance(error, kind):
            again = caller.repeat or verdict.unsent
            raised = Retriable if again else Unsettled
            return Failure(raised(verdict.message, code=verdict.code, context=context), again=again)
    raised_last = ProviderContractError if caller.repeat else Unsettled
    return Failure(raised_last("The exchange failed in a way HTTP does not foresee.", code="protocol", context=context))


def _is_untrusted(error: Exception) -> bool:
    """Whether a failed certificate check is behind a connect error."""
    return isinstance(_tls_error(error), ssl.SSLCertVerificationError)


def _wants_certificate(error: Exception) -> bool:
    """Whether the server ended the handshake because of our certificate, or for want of one.

    In TLS 1.3 it says so after we have begun to write, so that this looks like a connection that broke.
    """
    cause = _tls_error(error)
    reason = str(cause.reason) if cause is not None else ""
    return "ALERT" in reason and any(word in reason for word in _CERTIFICATE_ALERTS)


def _tls_error(error: Exception) -> ssl.SSLError | None:
    """The TLS error behind what httpx raised, which hides it under two wrappers."""
    cause: BaseException | None = error
    for _ in range(8):
        if cause is None or isinstance(cause, ssl.SSLError):
            break
        cause = cause.__cause__ or cause.__context__
    return cause if isinstance(cause, ssl.SSLError) else None


def judge_status(answer: Answer, caller: Caller, now: datetime) -> Failure:
    """Classifies an answer that is neither a success nor a redirect we follow."""
    status, context = answer.status, {"client": caller.client}
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return Failure(CredentialsError(answer=answer, client=caller.client, hint=caller.hint))
    if status == HTTPStatus.TOO_MANY_REQUESTS or (
        status == HTTPStatus.SERVICE_UNAVAILABLE and "retry-after" in answer.headers
    ):
        return _throttled(answer, caller, now)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _BUSY:
        raised = Retriable if caller.repeat else Unsettled
        code = "timeout" if status in _BUSY else "server_error"
        error = raised("The server failed to answer the request.", code=code, status=status, context=context)
        return Failure(error, again=caller.repeat)
    if status == HTTPStatus.NOT_FOUND:
        return Failure(Refused("The server does not know it.", answer=answer, client=caller.client, code="not_found"))
    if status >= HTTPStatus.BAD_REQUEST:
        return Failure(Refused("The server refused the request.", answer=answer, client=caller.client, code="rejected"))
    # 307 and 308 say that nothing was done here; the others may follow a write that was.
    elsewhere = caller.repeat or status in (HTTPStatus.TEMPORARY_REDIRECT, HTTPStatus.PERMANENT_REDIRECT)
    error_class = ProviderContractError if elsewhere else Unsettled
    message = "The server redirects elsewhere, or in circles; check the base URL."
    return Failure(error_class(message, code="redirect", status=status, context=context))


def _throttled(answer: Answer, caller: Caller, now: datetime) -> Failure:
    server_now = answer.server_time or now
    delay_s = retry_after_s(answer.headers.get("retry-after"), server_now) or rate_limit_delay_s(
        answer.headers, server_now
    )
    status, context = answer.status, {"client": caller.client}
    message = "The server asks us to slow down."
    error: MedscribeError
    if not (caller.repeat or caller.throttle_is_refusal):
        error = Unsettled(message, code="throttled", status=status, context=context)
        return Failure(error, throttled=True, delay_s=delay_s)
    if delay_s is not None and delay_s > caller.max_wait_s:
        error = Deferred(
            "The server asked us to wait longer than MAX_WAIT_S allows; run again after the time given.",
            until=now + timedelta(seconds=delay_s),
            code="throttled",
            status=status,
            context=context,
        )
        return Failure(error, throttled=True, delay_s=delay_s)
    error = Retriable(message, code="throttled", status=status, context=context)
    return Failure(error, again=True, throttled=True, delay_s=delay_s)


def unreadable(code: str, message: str, caller: Caller, *, again: bool = True) -> Failure:
    """A 2xx whose body nobody can read.

    Asking again may help, for a body that was cut; when the request must not be repeated, it was most likely
    carried out, and only a look at the server can tell.
    """
    context = {"client": caller.client}
    if caller.repeat:
        return Failure(ProviderContractError(message, code=code, context=context), again=again)
    return Failure(Unsettled(message, code=code, context=context))
