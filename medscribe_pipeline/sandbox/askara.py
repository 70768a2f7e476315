"""The Askara API: `/audios`, `/notes`, `/me`, the registration of webhooks and the token endpoint.

Shapes and parameters of audios are those of the vendor's reference (Askara API 1.1.0); notes, tokens and rate limits
those of its guides. Where the vendor is silent the sandbox does what API Platform, the framework behind it, does:
problem details (RFC 9457) for errors, an empty array past the last page.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.routing import Route

from medscribe_pipeline.sandbox.askara_oauth import OAuth, OAuthError
from medscribe_pipeline.sandbox.askara_query import Collection, QueryError
from medscribe_pipeline.sandbox.corpus import on_the_wire

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from medscribe_pipeline.sandbox.askara_webhooks import AskaraWebhooks
    from medscribe_pipeline.sandbox.corpus import Record
    from medscribe_pipeline.sandbox.state import State
    from medscribe_pipeline.sandbox.world import World

__all__ = ["AskaraOptions", "askara_app", "note_item"]

_PATIENT_LIST_FIELDS = ("uuid", "firstName", "lastName", "dateOfBirth", "gender")
_NOTE_PATIENT_FIELDS = ("uuid", "firstName", "lastName")
_EXPANSIONS = frozenset({"patient.read", "patient.list"})
_WINDOW_S = 900


@dataclass(frozen=True, slots=True)
class AskaraOptions:
    """How this Askara behaves where the vendor leaves it open, and its credentials.

    Attributes:
        token: A fixed bearer token that never expires.
        client_id: OAuth client.
        client_secret: OAuth client.
        refresh_token: The first one, single-use.
        token_lifetime_s: Of an access token.
        lists_archived: Whether lists hold archived audios when `exists[archivedAt]` is not asked for.
        strict_parameters: Answer 400 to parameters nobody documented, instead of ignoring them.
        rate_limit: Burst of the token bucket.
        rate_refill: Requests the bucket gains per quarter of an hour.
    """

    token: str = "sandbox-askara-token"  # noqa: S105 - known to everybody, good on loopback only
    client_id: str = "sandbox-client"
    client_secret: str = "sandbox-client-secret"  # noqa: S105 - as above
    refresh_token: str = "sandbox-refresh-first"  # noqa: S105 - as above
    token_lifetime_s: int = 3600
    lists_archived: bool = True
    strict_parameters: bool = True
    rate_limit: int = 5000
    rate_refill: int = 500


def askara_app(
    world: World,
    state: State,
    webhooks: AskaraWebhooks,
    options: AskaraOptions,
    clock: Callable[[], float] = time.time,
) -> Starlette:
    """Builds the app.

    Args:
        world: What it serves.
        state: Where it remembers its tokens.
        webhooks: Where it remembers who registered.
        options: Its behaviour.
        clock: Seconds since the epoch, for tokens and rate limits.
    """
    oauth = OAuth(
        client_id=options.client_id,
        client_secret=options.client_secret,
        first_refresh_token=options.refresh_token,
        clock=clock,
        state=state,
        lifetime_s=options.token_lifetime_s,
    )
    api = _Api(world, oauth, webhooks, options)
    return Starlette(
        routes=[
            Route("/oauth2/token", api.token, methods=["POST"]),
            Route("/audios", api.guarded(api.audios)),
            Route("/audios/{uuid}", api.guarded(api.audio)),
            Route("/notes", api.guarded(api.notes)),
            Route("/notes/{uuid}", api.guarded(api.note)),
            Route("/me", api.guarded(api.me)),
            Route("/webhooks", api.guarded(api.register), methods=["POST"]),
        ],
        middleware=[Middleware(_RateLimit, limit=options.rate_limit, refill=options.rate_refill, clock=clock)],
        exception_handlers={404: _not_found, 405: _method_not_allowed},
    )


class _Api:
    def __init__(self, world: World, oauth: OAuth, webhooks: AskaraWebhooks, options: AskaraOptions) -> None:
        self._world = world
        self._oauth = oauth
        self._webhooks = webhooks
        self._options = options
        self._audios = Collection(
            world,
            "audios",
            equals={
                "uuid": lambda audio: (audio["uuid"],),
                "patient": lambda audio: (audio["patient"],),
                "documents": lambda audio: audio["documents"],
                "user": lambda audio: (audio["user"],),
                "languageSpoken": lambda audio: (audio["languageSpoken"],),
            },
            dates=("createdAt", "updatedAt", "archivedAt"),
            order=("uuid", "patient"),
            text=lambda audio: self._name(audio["patient"]),
            also=("expand[]",),
            strict=options.strict_parameters,
        )
        # The vendor's page on notes is cut off after `patient` and `audio`; the rest follows the audios.
        self._notes = Collection(
            world,
            "notes",
            equals={
                "uuid": lambda note: (note["uuid"],),
                "patient": lambda note: (note["patient"],),
                "audio": lambda note: (note["audio"],),
                "user": lambda note: (note["user"],),
                "type": lambda note: (note["type"],),
            },
            dates=("createdAt", "updatedAt"),
            order=("uuid",),
            text=lambda note: f"{note['content']} {self._name(note['patient'])}",
            strict=options.strict_parameters,
        )

    def guarded(self, endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """Lets only requests with a good bearer token through, and answers 400 for bad parameters."""

        async def endpoint_if_authorized(request: Request) -> Response:
            scheme, _, token = request.headers.get("authorization", "").partition(" ")
            if scheme != "Bearer" or not (token == self._options.token or self._oauth.accepts(token)):
                return _problem(401, "Unauthorized", "The access token is missing, unknown or expired.")
            try:
                return await endpoint(request)
            except QueryError as error:
                return _problem(400, "Bad Request", f"Invalid or unknown parameter: {error}")

        return endpoint_if_authorized

    async def token(self, request: Request) -> Response:
        try:
            body = orjson.loads(await request.body())
        except orjson.JSONDecodeError:
            return _problem(400, "Bad Request", "The body is not JSON.")
        try:
            return _json(self._oauth.exchange(body if isinstance(body, dict) else {}))
        except OAuthError as error:
            code = str(error)
            return _json({"error": code}, 401 if code == "invalid_client" else 400)

    async def audios(self, request: Request) -> Response:
        parameters = request.query_params.multi_items()
        expand = {value for name, value in parameters if name == "expand[]"}
        if expand - _EXPANSIONS:
            raise QueryError("expand[]")
        page = self._audios.page(
            parameters, lambda audio: audio["archivedAt"] is not None and not self._options.lists_archived
        )
        return _json([on_the_wire(audio, self._audio_item(audio, expand)) for audio in page])

    async def audio(self, request: Request) -> Response:
        audio = self._world.records("audios").get(request.path_params["uuid"])
        if audio is None:
            return _problem(404, "Not Found", "Not Found")
        detail = {
            **self._audio_item(audio, {"patient.read"}),
            "documents": [{"uuid": document} for document in audio["documents"]],
            "images": [],
            "meeting": audio["meeting"],
            "languageSpoken": audio["languageSpoken"],
            "mediaRecorderType": audio["mediaRecorderType"],
        }
        return _json(on_the_wire(audio, detail))

    async def notes(self, request: Request) -> Response:
        page = self._notes.page(request.query_params.multi_items(), lambda _: False)
        return _json([on_the_wire(note, note_item(self._world, note)) for note in page])

    async def note(self, request: Request) -> Response:
        note = self._world.records("notes").get(request.path_params["uuid"])
        if note is None:
            return _problem(404, "Not Found", "Not Found")
        detail = {**note_item(self._world, note), "audio": note["audio"], "user": self._user(note["user"])}
        return _json(on_the_wire(note, detail))

    async def me(self, _: Request) -> Response:
        user = next(iter(self._world.records("users").values()))
        organization = {"uuid": user["uuid"], "name": "Zzmark Test Clinic", "country": "FR", "timezone": "Europe/Paris"}
        return _json({**user, "timezone": "Europe/Paris", "languageSpoken": "fr", "organization": organization})

    async def register(self, request: Request) -> Response:
        try:
            body = orjson.loads(await request.body())
            return _json(self._webhooks.register(body if isinstance(body, dict) else {}), 201)
        except ValueError:  # orjson's own error is one, too
            return _problem(422, "Unprocessable Content", "The webhook is not as documented.")

    def _audio_item(self, audio: Record, expand: set[str]) -> dict[str, Any]:
        patient: Any = audio["patient"]
        if patient is not None and expand:
            patient = _z(self._world.records("patients")[patient])
            if "patient.read" not in expand:
                patient = {name: patient[name] for name in _PATIENT_LIST_FIELDS}
        return {
            "uuid": audio["uuid"],
            "patient": patient,
            **{name: _z_text(audio[name]) for name in ("createdAt", "updatedAt", "archivedAt")},
            "user": self._user(audio["user"]),
            "audioWorkflowStepV3": audio["step"],
        }

    def _user(self, key: str | None) -> dict[str, Any] | None:
        return None if key is None else _z(self._world.records("users")[key])

    def _name(self, patient: str | None) -> str:
        record = self._world.records("patients").get(patient or "", {})
        return f"{record.get('firstName', '')} {record.get('lastName', '')}"


class _RateLimit:
    """The documented token bucket, and the headers that tell its level (`x-ratelimit-reset` in epoch seconds)."""

    def __init__(self, app: ASGIApp, *, limit: int, refill: int, clock: Callable[[], float]) -> None:
        self._app = app
        self._limit = limit
        self._per_second = refill / _WINDOW_S
        self._clock = clock
        self._level = float(limit)
        self._seen_at = clock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        now = self._clock()
        self._level = min(self._limit, self._level + (now - self._seen_at) * self._per_second)
        self._seen_at = now
        is_allowed = self._level >= 1
        if is_allowed:
            self._level -= 1
        reset = int(now + (self._limit - self._level) / self._per_second) + 1
        headers = [
            (b"x-ratelimit-limit", str(self._limit).encode()),
            (b"x-ratelimit-remaining", str(int(self._level)).encode()),
            (b"x-ratelimit-reset", str(reset).encode()),
        ]

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *headers]
            await send(message)

        if is_allowed:
            await self._app(scope, receive, send_with_headers)
        else:
            # The vendor does not say what happens then; this is what everybody else does.
            wait_s = int((1 - self._level) / self._per_second) + 1
            refusal = _problem(429, "Too Many Requests", "Rate limit exceeded.", {"retry-after": str(wait_s)})
            await refusal(scope, receive, send_with_headers)


def note_item(world: World, note: Record) -> dict[str, Any]:
    """A note as lists and events show it."""
    patient = world.records("patients").get(note["patient"] or "")
    return {
        **{name: note[name] for name in ("uuid", "type", "content", "createdAt", "updatedAt")},
        "patient": patient and {name: patient[name] for name in _NOTE_PATIENT_FIELDS},
    }


def _z_text(value: str | None) -> str | None:
    """Audios print times with `Z`, notes with `+00:00`, as in the vendor's own examples."""
    return value and value.replace("+00:00", "Z")


def _z(record: Record) -> dict[str, Any]:
    times = {name for name in record if name.endswith("At") or name == "dateOfBirth"}
    return {name: _z_text(value) if name in times else value for name, value in record.items()}


def _json(content: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")


def _problem(status: int, title: str, detail: str, headers: dict[str, str] | None = None) -> Response:
    body = {"type": f"/errors/{status}", "title": title, "status": status, "detail": detail, "instance": None}
    return Response(orjson.dumps(body), status, headers, media_type="application/problem+json")


async def _not_found(_request: Request, _error: Exception) -> Response:
    return _problem(404, "Not Found", "No route found.")


async def _method_not_allowed(_request: Request, _error: Exception) -> Response:
    return _problem(405, "Method Not Allowed", "Method Not Allowed")
