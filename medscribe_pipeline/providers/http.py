"""One polite, synchronous HTTP client for every server we talk to: the providers and the EHR.

It keeps to a budget, waits when asked to, retries what may be repeated and nothing else, bounds every wait and
every body, follows no redirect to another host, and turns whatever goes wrong into the errors of `errors.py`.
It never logs a URL, a header or a body, and its errors hold none: all three may name a patient.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from random import SystemRandom
from typing import TYPE_CHECKING, Any, Self

import httpx
import orjson
import tenacity

from medscribe_pipeline.errors import Retriable
from medscribe_pipeline.providers.answers import Answer, parse_http_date, parse_json, rate_limit_delay_s
from medscribe_pipeline.providers.budget import Budget, Clock, SystemClock
from medscribe_pipeline.providers.credentials import Auth, BearerToken
from medscribe_pipeline.providers.retry import (
    Caller,
    CredentialsError,
    Failure,
    Refused,
    Unsettled,
    judge_exception,
    judge_status,
    unreadable,
)
from medscribe_pipeline.providers.transport import (
    MAX_REDIRECTS,
    REDIRECTS,
    BodyTooLargeError,
    Lanes,
    join_url,
    read_body,
    redirect_target,
)
from medscribe_pipeline.watching import telemetry

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path
    from random import Random

    from medscribe_pipeline.settings import HttpSettings

__all__ = [
    "Answer",
    "Auth",
    "BearerToken",
    "Clock",
    "CredentialsError",
    "HttpClient",
    "Refused",
    "Stats",
    "SystemClock",
    "Unsettled",
]

_log = logging.getLogger(__name__)

# A body may trickle, each byte within `timeout_s`; the whole of it may take this many times as long.
_BODY_PATIENCE = 20


@dataclass
class Stats:
    """What a client has done so far, over all its threads.

    Attributes:
        requests: Requests sent, each try and each redirect counted.
        retries: Tries after the first. A re-authentication is none.
        throttled: Answers that asked us to slow down.
        waited_s: Seconds spent waiting, for whatever reason, summed over threads.
        bytes: Body bytes received, decompressed.
    """

    requests: int = 0
    retries: int = 0
    throttled: int = 0
    waited_s: float = 0.0
    bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)

    def add(
        self, *, requests: int = 0, retries: int = 0, throttled: int = 0, waited_s: float = 0.0, received: int = 0
    ) -> None:
        """Adds to the counters; threads may do so at once."""
        with self._lock:
            self.requests += requests
            self.retries += retries
            self.throttled += throttled
            self.waited_s += waited_s
            self.bytes += received


@dataclass
class _Call:
    """One request on its way through its tries."""

    method: str
    url: httpx.URL
    route: str
    headers: dict[str, str]
    content: bytes | Callable[[], Iterator[bytes]] | None
    caller: Caller
    any_body: bool
    tries: int = 0
    renewed: bool = False


class HttpClient:
    """A client for one server. Use as a context manager; share it between threads.

    Args:
        name: Short name of the server for messages and counters (`askara`, `ehr`).
        base_url: URL prefix of every path, path prefix included.
        settings: Limits and timeouts.
        auth: Where credentials come from; none are sent without it.
        credential_hint: Name of the setting to check when credentials are refused.
        clock: Times; a test may bring its own.
        sleep: Waits; a test may bring its own. With the default, `stop` ends a wait at once.
        random: Jitter of the waits.
        stop: Once set, no wait is begun or continued: `Retriable` with code `stopped`.
        ca_file: PEM file with the certificate authorities to trust, instead of the usual ones.
        tls: How to speak TLS, where more than that is to be said (a certificate of our own).
    """

    def __init__(
        self,
        name: str,
        base_url: str,
        settings: HttpSettings,
        auth: Auth | None = None,
        *,
        credential_hint: str = "",
        clock: Clock | None = None,
        sleep: Callable[[float], None] = time.sleep,
        random: Random | None = None,
        stop: threading.Event | None = None,
        ca_file: Path | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.name = name
        self.stats = Stats()
        self._settings = settings
        self._auth = auth
        self._hint = credential_hint
        self._clock = clock or SystemClock()
        self._stop = stop or threading.Event()
        self._sleep = self._sleep_until_stopped if sleep is time.sleep else sleep
        self._random = random or SystemRandom()
        self._budget = Budget(settings.requests_per_minute, settings.max_wait_s, self._clock, self._pause, name)
        self._base_url = base_url.rstrip("/")
        # At INFO these two print URLs, at DEBUG headers.
        for noisy in ("httpx", "httpcore"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        self._lanes = Lanes(name, self._base_url, settings, ca_file, tls)

    def __enter__(self) -> Self:
        """The client itself; leaving closes its connections."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the connections."""
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._lanes.close()

    def give_up(self) -> None:
        """Lets no request be tried again: what is under way, in whatever thread, ends with its current try."""
        self._stop.set()

    def hold(self, delay_s: float | None) -> None:
        """Lets no request leave for a while: the server wants quiet and said so where only the caller could read it.

        Args:
            delay_s: Seconds; for longer than `max_wait_s`, the next request raises `Deferred`. `None` where the server
                did not say for how long.
        """
        self.stats.add(throttled=1)
        self._budget.hold(self._jitter_s(1) if delay_s is None else delay_s)

    def get_json(self, path: str, params: Sequence[tuple[str, str]] = ()) -> Answer:
        """Reads `path`; see `request` for what it raises."""
        return self.request("GET", path, params=params, repeat=True)

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Sequence[tuple[str, str]] = (),
        json: bytes | Any = None,
        content: Callable[[], Iterator[bytes]] | None = None,
        headers: Mapping[str, str] | None = None,
        repeat: bool,
        throttle_is_refusal: bool = False,
        any_body: bool = False,
    ) -> Answer:
        """Sends a request until it is answered, as often as its nature and the settings allow.

        Args:
            method: HTTP method.
            path: Added to the base URL as it is, trailing slash included; percent-encode ids in it.
            params: Query parameters, in order, names may repeat.
            json: Body: bytes that are JSON already, or what orjson can write. None for no body.
            content: Instead of `json`, a body too large for memory: called for each sending, gives it in pieces. What
                it raises breaks the request off and reaches the caller as it is. `headers` must then hold
                `Content-Type` and `Content-Length`.
            headers: Further headers; they win over ours (`Content-Type`, `Accept`, `If-Match`).
            repeat: The request may be sent twice without harm. Otherwise it is sent again only when it surely
                took no effect.
            throttle_is_refusal: For `repeat=False`: this server is known to do nothing when it answers 429, or
                503 with `Retry-After`.
            any_body: The status and the headers of a success say enough: a body that is no JSON counts as none.

        Raises:
            CredentialsError: 401 or 403 (a `ConfigError`, code `credentials`).
            Refused: Another 4xx (a `Rejected`, code `not_found` for 404).
            Unsettled: The request must not be repeated and may have taken effect (a `Retriable`).
            Deferred: The server wants quiet for longer than `max_wait_s`.
            Retriable: All tries failed (`unreachable`, `timeout`, `disconnected`, `server_error`, `throttled`),
                or `stopped`.
            ProviderContractError: `not_json`, `undecodable`, `body_too_large`, `redirect` or `path`.
            ConfigError: `request` or `tls_certificate`: no such request can be made.
        """
        encoded = json if json is None or isinstance(json, bytes) else orjson.dumps(json)
        defaults = {"Content-Type": "application/json"} if encoded is not None else {}
        call = _Call(
            method=method,
            url=join_url(self._base_url, path, params),
            route=telemetry.route(path),
            headers={**defaults, **(headers or {})},
            content=content or encoded,
            caller=Caller(self.name, self._hint, repeat, throttle_is_refusal, self._settings.max_wait_s),
            any_body=any_body,
        )
        # Failures travel as values, so that no exception is ever raised while one of httpx's is being handled:
        # it would stay reachable through `__context__`, with the URL.
        outcome = self._try(call)
        if isinstance(outcome, Failure) and outcome.again:
            outcome = self._try_again(call, outcome)
        if isinstance(outcome, Failure):
            raise outcome.error
        return outcome

    def _try_again(self, call: _Call, failure: Failure) -> Answer | Failure:
        """What a call comes to whose first try has failed: that is the first of the tries counted here."""
        first = [failure]
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self._settings.max_attempts),
            retry=tenacity.retry_if_result(lambda outcome: isinstance(outcome, Failure) and outcome.again),
            wait=self._wait_s,
            before_sleep=self._note_retry,
            sleep=self._pause,
            retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
        )
        outcome: Answer | Failure = retrying(lambda: first.pop() if first else self._try(call))
        return outcome

    def _try(self, call: _Call) -> Answer | Failure:
        """One try; a renewal of the credentials, at most one a request, is part of it."""
        call.tries += 1
        credentials = self._auth.header() if self._auth else {}
        outcome = self._exchange(call, credentials)
        if (
            self._auth is not None
            and not call.renewed
            and isinstance(outcome, Failure)
            and outcome.error.status == HTTPStatus.UNAUTHORIZED
        ):
            call.renewed = True
            if self._auth.renew(credentials):
                outcome = self._exchange(call, self._auth.header())
        return outcome

    def _exchange(self, call: _Call, credentials: dict[str, str]) -> Answer | Failure:
        """Sends once and follows what redirects there are."""
        outcome = self._send(call, call.url, credentials)
        url = call.url
        for _ in range(MAX_REDIRECTS):
            if isinstance(outcome, Failure) or outcome.status not in REDIRECTS:
                return outcome
            target = redirect_target(call.method, url, outcome)
            if target is None:
                break
            url = target
            outcome = self._send(call, url, credentials)
        if isinstance(outcome, Answer) and outcome.status in REDIRECTS:
            return judge_status(outcome, call.caller, self._clock.now())
        return outcome

    def _send(self, call: _Call, url: httpx.URL, credentials: dict[str, str]) -> Answer | Failure:
        """One request and its answer."""
        self._budget.wait_turn()
        self.stats.add(requests=1)
        with telemetry.span(
            "medscribe.request",
            client=self.name,
            method=call.method,
            route=call.route,
            attempt=call.tries,
        ) as span:
            began = self._clock.monotonic()
            outcome = self._sent(call, url, credentials)
            failure = outcome.error if isinstance(outcome, Failure) else None
            status = outcome.error.status if isinstance(outcome, Failure) else outcome.status
            span.note(status=status, code=failure.code if failure else None)
        telemetry.observe(
            "medscribe.request.duration",
            self._clock.monotonic() - began,
            client=self.name,
            method=call.method,
            status=f"{status // 100}xx" if status else "none",
        )
        return outcome

    def _sent(self, call: _Call, url: httpx.URL, credentials: dict[str, str]) -> Answer | Failure:
        sent_at = self._clock.now()
        content = call.content() if callable(call.content) else call.content
        try:
            headers = {**credentials, **call.headers}
            with (
                self._lanes.borrow() as lane,
                lane.stream(call.method, url, headers=headers, content=content) as response,
            ):
                raw = self._read(response)
        except BodyTooLargeError:
            message = "The answer is larger than MAX_BODY_BYTES allows."
            return unreadable("body_too_large", message, call.caller, again=False)
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            return judge_exception(error, call.caller)
        self.stats.add(received=len(raw))
        return self._judge(call, response, raw, sent_at)

    def _read(self, response: httpx.Response) -> bytes:
        try:
            return b"".join(
                read_body(
                    response,
                    max_bytes=self._settings.max_body_bytes,
                    patience_s=_BODY_PATIENCE * self._settings.timeout_s,
                    monotonic=self._clock.monotonic,
                )
            )
        except (httpx.HTTPError, BodyTooLargeError):
            # An error's status says enough, and is not to be hidden by what became of its body.
            if not response.is_error:
                raise
            return b""

    def _judge(self, call: _Call, response: httpx.Response, raw: bytes, sent_at: datetime) -> Answer | Failure:
        """Learns from the headers what may be sent next, and from the status what came of this request."""
        now = self._clock.now()
        server_time = parse_http_date(response.headers.get("date"))
        body, is_json = None, True
        try:
            body = parse_json(raw)
        except ValueError:
            is_json = False
        answer = Answer(response.status_code, response.headers, body, sent_at, server_time)
        self._budget.hold(rate_limit_delay_s(response.headers, server_time or now) or 0.0)
        if answer.status in REDIRECTS:
            return answer
        if response.is_success or answer.status == HTTPStatus.NOT_MODIFIED:
            return (
                answer if is_json or call.any_body else unreadable("not_json", "The answer is not JSON.", call.caller)
            )
        failure = judge_status(answer, call.caller, now)
        if isinstance(failure.error, Unsettled):
            failure.error.answer = answer
        if failure.throttled:
            self.stats.add(throttled=1)
            self._budget.hold(failure.delay_s or self._jitter_s(call.tries))
        return failure

    def _jitter_s(self, tries: int) -> float:
        """Full jitter: anything from nothing to a ceiling that doubles with each try."""
        return self._random.uniform(0, min(self._settings.max_wait_s, self._settings.backoff_s * 2.0 ** (tries - 1)))

    def _wait_s(self, state: tenacity.RetryCallState) -> float:
        failure = state.outcome.result() if state.outcome else None
        # Once throttled, the budget does the waiting, in all threads alike.
        if isinstance(failure, Failure) and failure.throttled:
            return 0.0
        return self._jitter_s(state.attempt_number)

    def _note_retry(self, state: tenacity.RetryCallState) -> None:
        self.stats.add(retries=1)
        failure = state.outcome.result() if state.outcome else None
        code = failure.error.code if isinstance(failure, Failure) else ""
        telemetry.add("medscribe.retries", 1, client=self.name, code=code)
        _log.info("Trying again: client=%s code=%s failed_attempts=%d", self.name, code, state.attempt_number)

    def _pause(self, seconds: float) -> None:
        if seconds > 0 and not self._stop.is_set():
            self._sleep(seconds)
            self.stats.add(waited_s=seconds)
        if self._stop.is_set():
            raise Retriable("Stopped while waiting for the server.", code="stopped", context={"client": self.name})

    def _sleep_until_stopped(self, seconds: float) -> None:
        self._stop.wait(seconds)
