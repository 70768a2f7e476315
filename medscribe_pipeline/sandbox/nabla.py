"""The Nabla API: audio to transcript, transcript to note, or both at once, on order.

Paths, fields and spellings are those of the vendor's pages: `listen_async` of the archived generation,
`transcribe-async` and `generate-note-async` of 2024-04-22 (lower case) and of 2024-10-01 and later (upper case, renamed
keys). What those pages leave open (names of an error's fields, the body of a webhook) is an option. A recording is
never fetched: its URL's path decides what is heard in it, and what becomes of the job (see `fates.py`).
"""

from __future__ import annotations

import hashlib
import time
import uuid
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.routing import Route

from medscribe_pipeline.sandbox.fates import Fate, fates_of
from medscribe_pipeline.sandbox.jobs import JobBook, Phase, fates_in
from medscribe_pipeline.sandbox.nabla_answers import answer_of
from medscribe_pipeline.sandbox.nabla_oauth import ClientAssertions, Refusal
from medscribe_pipeline.sandbox.nabla_requests import (
    ARCHIVED,
    VERSIONS,
    Order,
    RequestError,
    listen_order,
    note_order,
    transcribe_order,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from medscribe_pipeline.sandbox.corpus import Record
    from medscribe_pipeline.sandbox.fates import JobOptions
    from medscribe_pipeline.sandbox.outbox import Outbox, Signature
    from medscribe_pipeline.sandbox.state import State
    from medscribe_pipeline.sandbox.stats import Stats

__all__ = ["Nabla", "NablaOptions"]

PREFIXES = ("/v1/copilot-api/server", "/v1/core/server")
_NAMESPACE = uuid.UUID("6f0f2a3e-6f6e-5d1e-9d2b-0c53c0de0001")


@dataclass(frozen=True, slots=True)
class NablaOptions:
    """How this Nabla behaves where the vendor leaves it open, and its credentials.

    Attributes:
        token: The static server key.
        oauth_client_id: OAuth client.
        oauth_public_key: PEM of that client's RSA public key; without one the token endpoint refuses everybody.
        token_lifetime_s: Of an access token.
        webhook_secrets: Each signs every callback; none leaves them unsigned. Two are a rotation in progress.
        pin: The account's own version, for requests that name none.
        strict_fields: Answer 400 to fields nobody documented, instead of ignoring them.
        nests_payload: Whether a polled result lies under `payload`, as documented, or beside the status.
        webhook_envelope: Wrap webhooks as `{id, type, created_at, data}`, as the vendor's older product did.
        failure_fields: Names of a failure's number and text; the vendor prints their values only.
    """

    token: str = "sandbox-nabla-key"  # noqa: S105 - known to everybody, good on loopback only
    oauth_client_id: str = "5a9d3b1e-0000-4000-8000-5a9db0c0ffee"
    oauth_public_key: str | None = None
    token_lifetime_s: int = 3600
    webhook_secrets: tuple[str, ...] = ("sandbox-webhook-secret",)
    pin: str = "2024-10-01"
    strict_fields: bool = True
    nests_payload: bool = True
    webhook_envelope: bool = False
    failure_fields: tuple[str, str] = ("code", "message")


class Nabla:
    """The API and its jobs.

    Args:
        options: Its behaviour.
        jobs: How long jobs take and what becomes of them.
        outbox: Where callbacks go.
        state: Where jobs are remembered.
        stats: Counts submissions.
        clock: Seconds since the epoch, for tokens and times.

    Attributes:
        book: The jobs.
        app: The ASGI application.
    """

    def __init__(
        self,
        options: NablaOptions,
        jobs: JobOptions,
        outbox: Outbox,
        state: State,
        stats: Stats,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._options = options
        self._outbox = outbox
        self._stats = stats
        self._clock = clock
        self._oauth = ClientAssertions(
            options.oauth_client_id, options.oauth_public_key, lifetime_s=options.token_lifetime_s, clock=clock
        )
        self.book = JobBook("nabla", jobs, state, self._on_finished)
        # One page of the vendor spells the path with an underscore.
        paths = (("listen_async", "listen"), ("transcribe-async", "transcribe"), ("transcribe_async", "transcribe"))
        self.app = Starlette(
            routes=[
                route
                for prefix in PREFIXES
                for route in (
                    Route(f"{prefix}/oauth/token", self._token, methods=["POST"]),
                    *(
                        Route(f"{prefix}/{path}", self._guarded(self._submission(kind)), methods=["POST"])
                        for path, kind in (*paths, ("generate-note-async", "note"))
                    ),
                    Route(f"{prefix}/transcribe-async/{{id}}", self._guarded(self._question("transcribe"))),
                    Route(f"{prefix}/generate-note-async/{{id}}", self._guarded(self._question("note"))),
                )
            ],
            exception_handlers={404: _not_found, 405: _method_not_allowed},
        )

    def push(self, key: str, signature: Signature = "good") -> bool:
        """Puts a callback about a job into the outbox; `False` when there is nothing to say yet, or nobody hears.

        Anything but a good signature comes with another result: a receiver that believes it is found out.
        """
        job = self.book.get(key)
        return job is not None and self._put(job, signature)

    def _on_finished(self, job: Record) -> None:
        fates = fates_in(job)
        if Fate.SILENT in fates:
            return
        if Fate.FORGED in fates:
            self._put(job, "wrong")
        if Fate.STALE in fates:
            self._put(job, "stale")
        delay = self.book.options.late_ticks if Fate.LATE in fates else 0
        for _ in range(2 if Fate.TWICE in fates else 1):
            self._put(job, "good", delay)

    def _put(self, job: Record, signature: Signature, delay: int = 0) -> bool:
        url = job["callback_url"] or self._outbox.targets["nabla"]
        phase = self.book.phase(job, asked=False)
        if url is None or phase not in {Phase.DONE, Phase.FAILED}:
            return False
        payload = self._answer(job, phase, forged=signature != "good")
        if self._options.webhook_envelope and job["kind"] != "listen":
            payload = {
                "id": str(uuid.uuid5(_NAMESPACE, f"event/{job['id']}")),
                "type": f"{job['kind']}.{phase}",
                "created_at": datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="milliseconds"),
                "data": payload,
            }
        self._outbox.put("nabla", url, payload, subject=job["id"], signature=signature, delay=delay)
        return True

    def _answer(self, job: Record, phase: Phase, *, forged: bool = False) -> dict[str, Any]:
        options = self._options
        return answer_of(job, phase, options.failure_fields, nests_payload=options.nests_payload, forged=forged)

    def _guarded(self, endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """Lets only requests with a good bearer token through."""

        async def endpoint_if_authorized(request: Request) -> Response:
            scheme, _, token = request.headers.get("authorization", "").partition(" ")
            if scheme != "Bearer" or not (token == self._options.token or self._oauth.accepts(token)):
                return _error(401, "UNAUTHORIZED")
            return await endpoint(request)

        return endpoint_if_authorized

    async def _token(self, request: Request) -> Response:
        try:
            return _json(self._oauth.exchange(await _object(request), str(request.url)))
        except RequestError as error:
            return _error(400, "BAD_REQUEST", str(error))
        except Refusal as refusal:
            return _error(401, "INVALID_CLIENT", str(refusal))

    def _submission(self, kind: str) -> Callable[[Request], Awaitable[Response]]:
        async def submit(request: Request) -> Response:
            try:
                body = await _object(request)
                version = ARCHIVED if kind == "listen" else self._version(request)
                order = self._order(kind, body, version)
            except RequestError as error:
                return _error(400, "BAD_REQUEST", f"Invalid or unknown field: {error}")
            digest = hashlib.sha256(orjson.dumps([kind, body], option=orjson.OPT_SORT_KEYS)).hexdigest()
            client_request_id = body.get("client_request_id")
            known = self.book.requested(client_request_id) if client_request_id else None
            if known is not None and known["digest"] != digest:
                return _error(409, "CLIENT_REQUEST_ID_CONFLICT")
            self._stats.count_job("nabla", kind, order.name, repeated=known is not None)
            job = known or self._begin(kind, order, version, digest, body)
            if known is None and Fate.EARLY in fates_in(job):
                await run_in_threadpool(self._outbox.deliver, job["id"])
            if kind == "listen":
                return _json({"request_id": job["id"], "client_request_id": client_request_id})
            return _json(self._answer(job, self._told(job)))

        return submit

    def _order(self, kind: str, body: dict[str, Any], version: str) -> Order:
        strict = self._options.strict_fields
        if kind == "listen":
            return listen_order(body, strict=strict)
        return (
            transcribe_order(body, strict=strict) if kind == "transcribe" else note_order(body, version, strict=strict)
        )

    def _begin(self, kind: str, order: Order, version: str, digest: str, body: dict[str, Any]) -> Record:
        fates = fates_of(order.name, self.book.options)
        return self.book.add(
            str(uuid.uuid5(_NAMESPACE, f"job/{len(self.book)}")).upper(),
            body.get("client_request_id"),
            fates.note if kind == "note" else fates.hearing,
            kind=kind,
            version=version,
            digest=digest,
            callback_url=body.get("callback_url"),
            order=asdict(order),
        )

    def _question(self, kind: str) -> Callable[[Request], Awaitable[Response]]:
        async def ask(request: Request) -> Response:
            job = self.book.get(request.path_params["id"])
            job = self.book.ask(job["id"]) if job is not None and job["kind"] == kind else None
            return _error(404, "NOT_FOUND") if job is None else _json(self._answer(job, self._told(job)))

        return ask

    def _told(self, job: Record) -> Phase:
        """What somebody who asks is told; a job that will be gone is still on its way when it is submitted."""
        phase = self.book.phase(job, asked=True)
        return Phase.RUNNING if phase is Phase.GONE else phase

    def _version(self, request: Request) -> str:
        """The version asked for. As with the vendor, a *header* spelled like the query parameter is ignored."""
        version = request.headers.get("x-nabla-api-version") or request.query_params.get("nabla-api-version")
        if version is not None and version not in VERSIONS[1:]:
            raise RequestError("X-Nabla-Api-Version")
        version = version or self._options.pin
        # The archived generation has no polled endpoints of these names: the first one that has is meant.
        return VERSIONS[1] if version == ARCHIVED else version


async def _object(request: Request) -> dict[str, Any]:
    try:
        body = orjson.loads(await request.body())
    except orjson.JSONDecodeError:
        raise RequestError("body") from None
    if not isinstance(body, dict):
        raise RequestError("body")
    return body


def _json(content: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")


def _error(status: int, name: str, message: str = "The request was refused.") -> Response:
    """The vendor's error: a `code` finer than the HTTP status, a text for people, a name."""
    return _json({"code": status * 100 + 1, "message": message, "name": name}, status)


async def _not_found(_request: Request, _cause: Exception) -> Response:
    return _error(404, "NOT_FOUND")


async def _method_not_allowed(_request: Request, _cause: Exception) -> Response:
    return _error(405, "METHOD_NOT_ALLOWED")
