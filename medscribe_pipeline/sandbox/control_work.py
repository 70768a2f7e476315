"""The control endpoints of the providers that work on order, and of everything that is pushed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request

    from medscribe_pipeline.sandbox.jobs import JobBook
    from medscribe_pipeline.sandbox.outbox import Outbox
    from medscribe_pipeline.sandbox.pushes import Pushes

__all__ = ["work_routes"]

_MOST_TICKS = 10_000
_PUSH_FIELDS = frozenset({"app", "keys", "event", "times", "signature", "changes"})


def work_routes(pushes: Pushes, outbox: Outbox, books: dict[str, JobBook]) -> list[Route]:
    """Routes for `control_app`; sending happens in a thread, so that a receiver may ask the sandbox meanwhile."""
    work = _Work(pushes, outbox, books)
    return [
        Route("/tick", work.tick, methods=["POST"]),
        Route("/push", work.push, methods=["POST"]),
        Route("/targets", work.targets, methods=["PUT"]),
        Route("/jobs", work.jobs),
    ]


class _Work:
    def __init__(self, pushes: Pushes, outbox: Outbox, books: dict[str, JobBook]) -> None:
        self._pushes = pushes
        self._outbox = outbox
        self._books = books

    async def tick(self, request: Request) -> Response:
        times = (await _body(request, frozenset({"times"}))).get("times", 1)
        if not isinstance(times, int) or not 0 < times <= _MOST_TICKS:
            raise ValueError("times")
        return _json(await run_in_threadpool(self._pushes.tick, times))

    async def push(self, request: Request) -> Response:
        wanted = await _body(request, _PUSH_FIELDS)
        app, keys = wanted.pop("app", None), wanted.pop("keys", None)
        times, changes = wanted.get("times", 1), wanted.get("changes", {})
        are_types_right = isinstance(keys, list) and isinstance(times, int) and isinstance(changes, dict)
        if not are_types_right or not 0 < times <= _MOST_TICKS:
            raise ValueError("keys, times or changes")
        return _json(await run_in_threadpool(self._pushes.push, app, list(map(str, keys)), **wanted))

    async def targets(self, request: Request) -> Response:
        wanted = await _body(request, frozenset(self._outbox.targets))
        if not all(url is None or isinstance(url, str) for url in wanted.values()):
            raise ValueError("url")
        self._outbox.targets.update(wanted)
        return _json(self._outbox.targets)

    async def jobs(self, _: Request) -> Response:
        return _json(
            {
                app: [
                    {
                        "id": job["id"],
                        "client_request_id": job["client_request_id"],
                        "phase": book.phase(job, asked=False),
                        "fates": job["fates"],
                    }
                    for job in book.jobs()
                ]
                for app, book in self._books.items()
            }
        )


async def _body(request: Request, known: frozenset[str]) -> dict[str, Any]:
    """The body's JSON object with known fields only; anything else is a `ValueError`."""
    content = await request.body()
    body = orjson.loads(content) if content else {}
    if not isinstance(body, dict) or body.keys() - known:
        raise ValueError("not an object of known fields")
    return body


def _json(content: Any) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")
