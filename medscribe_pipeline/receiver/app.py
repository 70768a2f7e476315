"""The web application: verify, store, answer; never map inline.

| answer | when | what the sender does |
|---|---|---|
| 200 | stored, or there already; committed in both cases | nothing |
| 400 | not JSON, or not an object or array | gives up |
| 401 | no signature, a wrong one, or a timestamp too old | |
| 404 | no such path: also every path whose secret is not configured, or not the one given | |
| 408, 413 | the body is too slow, too long | |
| 429, 503 | too many, the warehouse is busy: with `Retry-After` | sends again |
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import math
import time
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import orjson
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from medscribe_pipeline.errors import ConfigError, MedscribeError, WarehouseError
from medscribe_pipeline.providers.answers import parse_json
from medscribe_pipeline.receiver.events import MAX_EVENTS, events_in, request_uuid
from medscribe_pipeline.receiver.limits import ByteBudget, Rate, TurnedAway, declared_size, read_body
from medscribe_pipeline.receiver.metrics import CONTENT_TYPE, Metrics
from medscribe_pipeline.receiver.signatures import Signed, signed_by

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from starlette.requests import Request

    from medscribe_pipeline.providers.inbox_store import Event
    from medscribe_pipeline.receiver.writer import EventWriter
    from medscribe_pipeline.settings import Settings

__all__ = ["STORE_S", "receiver_app"]

# Together below the 5 seconds that Askara grants.
SHARE_S = 1.0
STORE_S = 3.5
READY_S = 2.0
BODY_S = 10.0
RETRY_AFTER_S = 5.0
BODIES_HELD = 4  # bodies of the greatest size held at once; small ones: thousands

log = logging.getLogger(__name__)


def receiver_app(
    settings: Settings,
    writer: EventWriter,
    *,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    monotonic: Callable[[], float] = time.monotonic,
) -> Starlette:
    """Builds the app: a path for each provider whose secret is configured, and `/healthz`, `/readyz`, `/metrics`.

    Args:
        settings: The settings.
        writer: Stores the events.
        clock: Gives the current time, for the age of signatures.
        monotonic: Seconds of a clock that never goes back, for the rate.

    Raises:
        ConfigError: No secret is configured, so nothing could be received.
    """
    doors = _Doors(settings, writer, clock, monotonic)
    routes = doors.routes()
    if not routes:
        raise ConfigError(
            "Nothing can be received without a secret; set MEDSCRIBE_RECEIVER_PATH_SECRET or "
            "MEDSCRIBE_NABLA_WEBHOOK_SECRET",
            code="receiver_secret",
        )
    routes += [
        Route("/healthz", doors.health),
        Route("/readyz", doors.readiness),
        Route("/metrics", doors.metrics_text),
    ]
    app = Starlette(routes=routes)
    app.router.redirect_slashes = False
    return app


class _Doors:
    def __init__(
        self,
        settings: Settings,
        writer: EventWriter,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float],
    ) -> None:
        own = settings.receiver
        self._max_body_bytes = own.max_body_bytes
        self._tolerance_s = own.tolerance_s
        self._path_secret = own.path_secret.get_secret_value() if own.path_secret else None
        webhook_secret = settings.nabla.webhook_secret
        self._webhook_secret = webhook_secret.get_secret_value() if webhook_secret else None
        self._writer = writer
        self._clock = clock
        self._monotonic = monotonic
        self._rate = Rate(own.max_events_per_minute, monotonic)
        self._budget = ByteBudget(BODIES_HELD * own.max_body_bytes, wait_s=SHARE_S, retry_after_s=RETRY_AFTER_S)
        self._metrics = Metrics()

    def routes(self) -> list[Route]:
        """The paths that exist: those with a secret."""
        found = []
        if self._webhook_secret:
            found.append(Route("/callbacks/nabla", self._post("nabla"), methods=["POST"]))
        if self._path_secret:
            by_path = {"audioscribe": "/webhooks/audioscribe", "askara": "/webhooks/askara"}
            if not self._webhook_secret:
                by_path["nabla"] = "/callbacks/nabla"
            found += [
                Route(f"{path}/{{secret}}", self._post(provider), methods=["POST"])
                for provider, path in by_path.items()
            ]
        return found

    async def health(self, _request: Request) -> Response:
        """The process answers."""
        return _json({"status": "ok"})

    async def readiness(self, _request: Request) -> Response:
        """The warehouse answers, too, and has the schema of this version."""
        try:
            ready = await asyncio.wait_for(asyncio.wrap_future(self._writer.is_ready()), READY_S)
        except (MedscribeError, TimeoutError):
            ready = False
        if ready:
            return _json({"status": "ready"})
        return _json({"status": "warehouse"}, HTTPStatus.SERVICE_UNAVAILABLE)

    async def metrics_text(self, _request: Request) -> Response:
        """Counters for Prometheus."""
        return PlainTextResponse(self._metrics.render(held_bytes=self._budget.used), media_type=CONTENT_TYPE)

    def _post(self, provider: str) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            self._metrics.in_flight += 1
            started = self._monotonic()
            try:
                return await self._answer(provider, request)
            except TurnedAway as turned_away:
                return self._refuse(provider, turned_away)
            except Exception as error:  # noqa: BLE001  # a traceback would show what was received
                log.error("Event failed: provider=%s cause=%s", provider, type(error).__name__)  # noqa: TRY400  # as above
                return self._refuse(provider, TurnedAway(HTTPStatus.INTERNAL_SERVER_ERROR, "failed"))
            finally:
                self._metrics.in_flight -= 1
                self._metrics.observe(self._monotonic() - started)

        return handle

    async def _answer(self, provider: str, request: Request) -> Response:
        signed = self._check_head(request)
        self._rate.check()
        async with self._budget.share(declared_size(request, self._max_body_bytes)):
            raw = await read_body(request, max_bytes=self._max_body_bytes, timeout_s=BODY_S)
            if signed is not None and not signed.proves(self._webhook_secret or "", raw):
                raise TurnedAway(HTTPStatus.UNAUTHORIZED, "bad_signature")
            self._rate.take()
            body = _parsed(raw)
            del raw
            events = events_in(provider, body, verified=signed is not None)
            if len(events) > MAX_EVENTS:
                raise TurnedAway(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_many_events")
            fresh = await self._stored(events)
        for event, is_new in zip(events, fresh, strict=True):
            self._metrics.count(provider, event.kind, "stored" if is_new else "duplicate")
        echo = request_uuid(body) if provider == "nabla" else None
        return _json({"request_uuid": echo} if echo else {"status": "stored"})

    def _check_head(self, request: Request) -> Signed | None:
        """What can be told before the body is read: the secret in the path, or that there is a fresh signature."""
        given = request.path_params.get("secret")
        if given is not None:
            if not hmac.compare_digest(given.encode(), (self._path_secret or "").encode()):
                raise TurnedAway(HTTPStatus.NOT_FOUND, "wrong_secret")
            return None
        signed = signed_by(request.headers)
        if signed is None:
            raise TurnedAway(HTTPStatus.UNAUTHORIZED, "unsigned")
        if not signed.is_fresh(self._clock(), self._tolerance_s):
            raise TurnedAway(HTTPStatus.UNAUTHORIZED, "stale_signature")
        return signed

    async def _stored(self, events: Sequence[Event]) -> list[bool]:
        """Waits for the commit. After a timeout the event may still be stored; sent again, it is a duplicate."""
        try:
            return await asyncio.wait_for(asyncio.wrap_future(self._writer.submit(events)), STORE_S)
        except TimeoutError:
            raise _busy() from None
        except MedscribeError as error:
            log.warning("Event not stored: code=%s cause=%s", error.code, error.context.get("cause", ""))
            if isinstance(error, WarehouseError):
                raise _busy() from None
            raise TurnedAway(HTTPStatus.INTERNAL_SERVER_ERROR, "failed") from None

    def _refuse(self, provider: str, turned_away: TurnedAway) -> Response:
        self._metrics.count(provider, "", turned_away.outcome)
        log.info("Event refused: provider=%s outcome=%s", provider, turned_away.outcome)
        if turned_away.outcome == "wrong_secret":
            # The same answer as for a path that does not exist.
            return PlainTextResponse("Not Found", HTTPStatus.NOT_FOUND)
        response = _json({"status": turned_away.outcome}, turned_away.status)
        if turned_away.retry_after_s is not None:
            response.headers["Retry-After"] = str(max(1, math.ceil(turned_away.retry_after_s)))
        return response


def _parsed(raw: bytes) -> Any:
    """The JSON, whatever `Content-Type` says: providers do not agree on it, and only JSON is taken."""
    try:
        body = parse_json(raw)
    except ValueError:
        raise TurnedAway(HTTPStatus.BAD_REQUEST, "not_json") from None
    if not isinstance(body, dict | list):
        raise TurnedAway(HTTPStatus.BAD_REQUEST, "not_json")
    return body


def _busy() -> TurnedAway:
    return TurnedAway(HTTPStatus.SERVICE_UNAVAILABLE, "busy", RETRY_AFTER_S)


def _json(content: Any, status: int = HTTPStatus.OK) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")
