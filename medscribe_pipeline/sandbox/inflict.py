"""How each fault is done to a request: ASGI middleware around one of the sandbox's apps."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

import orjson
from starlette.responses import HTMLResponse, Response

from medscribe_pipeline.sandbox.faults import Fault, FaultPlan, Faults
from medscribe_pipeline.sandbox.multipart import boundary_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from medscribe_pipeline.sandbox.stats import Stats

__all__ = ["OAUTH_TOKEN_PREFIX", "FaultMiddleware", "FaultSwitch"]

OAUTH_TOKEN_PREFIX = "sandbox-access-"  # noqa: S105 - how issued access tokens begin, no secret
"""Tells tokens a client can renew from fixed ones."""

_SLOW_PIECES = 4
_FIRST_PAGES = {"askara": 1, "audioscribe": 0}
_Answer = tuple[int, list[tuple[bytes, bytes]], bytes]


class FaultSwitch:
    """The one place where faults are turned on and off while the server runs."""

    def __init__(self, faults: Faults | None = None) -> None:
        self.plan: FaultPlan | None = None
        self.set(faults)

    def set(self, faults: Faults | None) -> None:
        """Replaces the faults; `None` turns them off. Nothing of the former plan is remembered."""
        self.plan = None if faults is None else FaultPlan(faults)


class FaultMiddleware:
    """Passes requests to an app, or does to them what the plan says.

    Args:
        app: The app that is interfered with.
        name: `askara`, `audioscribe`, `nabla`, `intron` or `fhir`.
        switch: Holds the plan.
        stats: Counts the faults.
        cut: Ends the client's connection at once, without a word.
    """

    def __init__(
        self, app: ASGIApp, name: str, *, switch: FaultSwitch, stats: Stats, cut: Callable[[Scope], None]
    ) -> None:
        self._app = app
        self._name = name
        self._switch = switch
        self._stats = stats
        self._cut_connection = cut
        self._shifted_walks: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request (ASGI)."""
        plan = self._switch.plan
        if scope["type"] != "http" or plan is None:
            await self._app(scope, receive, send)
            return
        body = await _read(receive)
        page = _Page(scope, _FIRST_PAGES.get(self._name))
        if page.is_first:
            self._shifted_walks.discard(page.walk)
        query = urlencode(sorted(parse_qsl(scope["query_string"].decode())))
        fault = plan.decide(
            self._name,
            f"{scope['method']} {scope['path']}?{query} {hashlib.sha256(_lasting(scope, body)).hexdigest()}",
            is_later_page=page.is_later,
            is_token_exchange=scope["path"].endswith("/oauth2/token"),
            has_oauth_token=_header(scope, b"authorization").startswith(f"Bearer {OAUTH_TOKEN_PREFIX}"),
        )
        if fault is not None:
            self._stats.count_fault(fault)
        if fault is Fault.SHIFTED_PAGES:
            self._shifted_walks.add(page.walk)
        refusal = _refusal(fault, self._name, plan.faults)
        if refusal is not None:
            await refusal(scope, receive, send)
        elif fault is Fault.CUT_BEFORE:
            await self._cut(scope, receive)
        elif fault is Fault.DUPLICATE_PAGE:
            await _send(send, await self._ask(page.at(page.number - 1), body))
        else:
            answer = await self._ask(scope, body)
            if page.is_later and page.walk in self._shifted_walks:
                answer = await self._shifted(answer, page)
            await self._spoil(fault, plan.faults.slow_s, answer, scope, receive, send)

    async def _spoil(
        self, fault: Fault | None, slow_s: float, answer: _Answer, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Sends the answer to a request that was carried out, or what is left of it."""
        status, headers, content = answer
        half = content[: len(content) // 2]
        match fault:
            case Fault.CUT_AFTER:
                await self._cut(scope, receive)
            case Fault.CUT_BODY:
                await send({"type": "http.response.start", "status": status, "headers": headers})
                await send({"type": "http.response.body", "body": half, "more_body": True})
                await self._cut(scope, receive)
            case Fault.BAD_GATEWAY_502:
                await HTMLResponse("<html><h1>502 Bad Gateway</h1></html>", status_code=502)(scope, receive, send)
            case Fault.TRUNCATED:
                await _send(send, (status, _with_length(headers, len(half)), half))
            case Fault.SLOW:
                await _send(send, answer, pause_s=slow_s / _SLOW_PIECES)
            case _:
                await _send(send, answer)

    async def _cut(self, scope: Scope, receive: Receive) -> None:
        self._cut_connection(scope)
        # Returning before the server has noticed would make it answer 500 on our behalf.
        while (await receive())["type"] != "http.disconnect":
            continue

    async def _shifted(self, answer: _Answer, page: _Page) -> _Answer:
        """A page as it looks after the list's first item has moved to the end."""
        here = _items(answer)
        if not here:
            return answer
        first, after = _items(await self._ask(page.at(page.first), b"")), _items(await self._ask(page.next, b""))
        content = orjson.dumps([*here[1:], *(after or first)[:1]])
        return answer[0], _with_length(answer[1], len(content)), content

    async def _ask(self, scope: Scope, body: bytes) -> _Answer:
        """What the app itself answers."""
        start: dict[str, Any] = {}
        pieces: list[bytes] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            else:
                pieces.append(message.get("body", b""))

        await self._app(dict(scope), receive, send)
        return start["status"], list(start["headers"]), b"".join(pieces)


class _Page:
    """Where in a walk through a list a request stands. FHIR has no numbered pages, so nothing there is one."""

    def __init__(self, scope: Scope, first: int | None) -> None:
        self._scope = scope
        self._others = [(name, value) for name, value in parse_qsl(scope["query_string"].decode()) if name != "page"]
        given = dict(parse_qsl(scope["query_string"].decode())).get("page", "")
        self.first = first or 0
        self.number = int(given) if given.isdecimal() else self.first
        self.walk = f"{scope['path']}?{urlencode(sorted(self._others))}"
        is_list = first is not None and scope["method"] == "GET"
        self.is_first = is_list and self.number == self.first
        self.is_later = is_list and self.number > self.first

    def at(self, number: int) -> Scope:
        """The same request for another page."""
        return {**self._scope, "query_string": urlencode([*self._others, ("page", number)]).encode()}

    @property
    def next(self) -> Scope:
        """The same request for the page after."""
        return self.at(self.number + 1)


def _refusal(fault: Fault | None, app: str, faults: Faults) -> Response | None:
    """The answer of a server that did not do anything, for the faults that are one."""
    wait = str(faults.retry_after_s)
    match fault:
        case Fault.THROTTLED:
            return _error(app, 429, "throttled", {"retry-after": wait})
        case Fault.THROTTLED_UNTIL:
            # HTTP dates have whole seconds: round up, so that the wait is never shorter than was asked for.
            until = datetime.now(UTC) + timedelta(seconds=faults.retry_after_s, microseconds=999_999)
            return _error(app, 429, "throttled", {"retry-after": format_datetime(until, usegmt=True)})
        case Fault.ERROR_500:
            return _error(app, 500, "exception", {})
        case Fault.UNAVAILABLE_503:
            return Response(status_code=503)
        case Fault.UNAUTHORIZED:
            return _error(app, 401, "login", {"www-authenticate": 'Bearer error="invalid_token"'})
        case _:
            return None


def _error(app: str, status: int, code: str, headers: dict[str, str]) -> Response:
    media_type = "application/json"
    body: dict[str, Any] = {"detail": "Scripted fault."}
    if app == "askara":
        media_type = "application/problem+json"
        body |= {"type": f"/errors/{status}", "title": "An error occurred", "status": status}
    elif app == "nabla":
        body = {"code": status * 100, "message": "Scripted fault.", "name": code.upper()}
    elif app == "intron":
        body = {"status": "Error", "message": "Scripted fault.", "data": {}}
    elif app == "fhir":
        media_type = "application/fhir+json"
        body = {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": code}]}
    return Response(orjson.dumps(body), status_code=status, headers=headers, media_type=media_type)


def _items(answer: _Answer) -> list[Any]:
    """The items of a list answer; none when it is an error."""
    status, _, content = answer
    items = orjson.loads(content) if status == 200 else []  # noqa: PLR2004 - the HTTP status, plainest as a number
    return items if isinstance(items, list) else []


async def _send(send: Send, answer: _Answer, pause_s: float | None = None) -> None:
    """Sends an answer whole, or in a few pieces with a pause before each."""
    status, headers, content = answer
    await send({"type": "http.response.start", "status": status, "headers": headers})
    if pause_s is not None:
        size = len(content) // _SLOW_PIECES + 1
        for start in range(0, len(content), size):
            # Before each piece: a client that counts the bytes does not wait for anything after the last.
            await asyncio.sleep(pause_s)
            await send({"type": "http.response.body", "body": content[start : start + size], "more_body": True})
        content = b""
    await send({"type": "http.response.body", "body": content})


def _with_length(headers: list[tuple[bytes, bytes]], length: int) -> list[tuple[bytes, bytes]]:
    others = [(name, value) for name, value in headers if name.lower() != b"content-length"]
    return [*others, (b"content-length", str(length).encode())]


def _lasting(scope: Scope, body: bytes) -> bytes:
    """What of a body is the same when the request is made again: not a form's boundary, not a signed assertion."""
    if scope["path"].endswith("/oauth/token"):
        return b""
    boundary = boundary_of(_header(scope, b"content-type"))
    return body if boundary is None else body.replace(boundary, b"")


def _header(scope: Scope, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


async def _read(receive: Receive) -> bytes:
    pieces = []
    more = True
    while more:
        message = await receive()
        pieces.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(pieces)
