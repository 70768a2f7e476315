"""The AudioScribe API: a list of sessions, and one session.

The vendor documents the fields, the bearer token and that pages are numbered from 0. Page size, order and what comes
after the last page it leaves open: here they are options. Errors are in the style of the framework its paths suggest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import orjson
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from medscribe_pipeline.sandbox.corpus import on_the_wire

if TYPE_CHECKING:
    from starlette.requests import Request

    from medscribe_pipeline.sandbox.corpus import Record
    from medscribe_pipeline.sandbox.world import World

__all__ = ["AudioScribeOptions", "audioscribe_app", "session_item"]

_FIELDS = ("id", "title", "note", "originalTranscript", "tags", "createdAt")


@dataclass(frozen=True, slots=True)
class AudioScribeOptions:
    """How this AudioScribe behaves where the vendor leaves it open, and its credential.

    Attributes:
        token: The bearer token.
        page_size: Sessions a page.
        newest_first: Order of the list.
        past_the_end: `empty` array, `not_found` (404), or `clamp`: the last page again and again.
    """

    token: str = "sandbox-audioscribe-token"  # noqa: S105 - known to everybody, good on loopback only
    page_size: int = 10
    newest_first: bool = True
    past_the_end: Literal["empty", "not_found", "clamp"] = "empty"


def audioscribe_app(world: World, options: AudioScribeOptions) -> Starlette:
    """Builds the app; `sessions` and `notes` are two names for one resource, as in the vendor's two documents."""
    api = _Api(world, options)
    app = Starlette(
        routes=[
            route
            for resource in ("sessions", "notes")
            for route in (
                Route(f"/api/v1/audioscribe/{resource}/", api.sessions),
                Route(f"/api/v1/audioscribe/{resource}/{{key:int}}/", api.session),
            )
        ],
        exception_handlers={404: _not_found},
    )
    # A path without its trailing slash is not there.
    app.router.redirect_slashes = False
    return app


class _Api:
    def __init__(self, world: World, options: AudioScribeOptions) -> None:
        self._world = world
        self._options = options
        self._sorted_at = -1
        self._sorted: list[Record] = []

    async def sessions(self, request: Request) -> Response:
        if not self._is_authorized(request):
            return _json({"detail": "Invalid token."}, 401)
        given = request.query_params.get("page", "0")
        if not (given.isascii() and given.isdecimal()):
            return _json({"detail": "Invalid page."}, 404)
        sessions, number, size = self._in_order(), int(given), self._options.page_size
        if number * size >= len(sessions):
            if self._options.past_the_end == "not_found" and number > 0:
                return _json({"detail": "Invalid page."}, 404)
            if self._options.past_the_end == "clamp":
                number = max(0, (len(sessions) - 1) // size)
        return _json([session_item(session) for session in sessions[number * size : (number + 1) * size]])

    async def session(self, request: Request) -> Response:
        if not self._is_authorized(request):
            return _json({"detail": "Invalid token."}, 401)
        session = self._world.records("sessions").get(str(request.path_params["key"]))
        return _json({"detail": "Not found."}, 404) if session is None else _json(session_item(session))

    def _is_authorized(self, request: Request) -> bool:
        return request.headers.get("authorization") == f"Bearer {self._options.token}"

    def _in_order(self) -> list[Record]:
        with self._world.lock:
            if self._sorted_at != self._world.version("sessions"):
                self._sorted_at = self._world.version("sessions")
                self._sorted = sorted(
                    self._world.records("sessions").values(),
                    key=lambda session: (session["_sort"], session["id"]),
                    reverse=self._options.newest_first,
                )
            return self._sorted


def session_item(session: Record) -> dict[str, Any]:
    """A session as the API answers it and the webhook posts it."""
    return on_the_wire(session, {name: session[name] for name in _FIELDS})


def _json(content: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")


async def _not_found(_request: Request, _error: Exception) -> Response:
    return _json({"detail": "Not found."}, 404)
