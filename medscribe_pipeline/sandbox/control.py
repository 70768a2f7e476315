"""The control endpoints: what a test or a demo tells the sandbox to do while it runs, under `/_control`.

```
POST   /_control/advance                    a day passes; answers what happened in it
POST   /_control/notes/{uuid}/edit          {"content": optional}
POST   /_control/sessions/{id}/edit         {"note": optional}
POST   /_control/sessions                   {field: value, ...}; answers {"key": id}
POST   /_control/audios/{uuid}/{action}     archive, restore, touch, transcribe, step {"step": name}
DELETE /_control/{collection}/{key}         audios, notes or sessions: gone without a trace
PUT    /_control/faults                     {} for all, or fields of `Faults`; DELETE turns them off
GET    /_control/stats                      requests and faults so far; DELETE starts again from zero
GET    /_control/world                      generation, clock, counts
GET    /_control/visits                     the truth about visits, recordings to be worked on included
POST   /_control/tick                       time passes: jobs move on, what is due is pushed; {"times": optional}
POST   /_control/push                       sends something now: {"app": ..., "keys": [...]}, see `Pushes.push`
PUT    /_control/targets                    where `nabla` and `audioscribe` push to: {"nabla": url or null}
GET    /_control/jobs                       the jobs of Nabla and Intron
```
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import orjson
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from medscribe_pipeline.sandbox.faults import Fault, Faults
from medscribe_pipeline.sandbox.generations import advance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

    from medscribe_pipeline.sandbox.fhir_store import FhirStore
    from medscribe_pipeline.sandbox.inflict import FaultSwitch
    from medscribe_pipeline.sandbox.stats import Stats
    from medscribe_pipeline.sandbox.world import World

__all__ = ["control_app"]

_DELETABLE = frozenset({"audios", "notes", "sessions"})


def control_app(
    world: World, store: FhirStore, switch: FaultSwitch, stats: Stats, more: Sequence[Route] = ()
) -> Starlette:
    """Builds the app. It asks for no token: whoever reaches loopback may play with synthetic data.

    Args:
        world: Changed on request.
        store: Counted.
        switch: Turned.
        stats: Shown.
        more: Further routes, see `control_work.py`.
    """
    control = _Control(world, store, switch, stats)
    return Starlette(
        routes=[
            Route("/advance", control.advance, methods=["POST"]),
            Route("/notes/{key}/edit", control.edit_note, methods=["POST"]),
            Route("/sessions", control.add_session, methods=["POST"]),
            Route("/sessions/{key}/edit", control.edit_session, methods=["POST"]),
            Route("/audios/{key}/{action}", control.change_audio, methods=["POST"]),
            Route("/faults", control.faults, methods=["PUT", "DELETE"]),
            Route("/stats", control.stats, methods=["GET", "DELETE"]),
            Route("/world", control.world),
            Route("/visits", control.visits),
            *more,
            Route("/{collection}/{key}", control.delete, methods=["DELETE"]),
        ],
        exception_handlers={KeyError: _unknown, ValueError: _wrong},
    )


class _Control:
    def __init__(self, world: World, store: FhirStore, switch: FaultSwitch, stats: Stats) -> None:
        self._world = world
        self._store = store
        self._switch = switch
        self._stats = stats

    async def advance(self, _: Request) -> Response:
        return _json(advance(self._world))

    async def edit_note(self, request: Request) -> Response:
        self._world.edit_note(request.path_params["key"], (await _body(request)).get("content"))
        return _json({})

    async def add_session(self, request: Request) -> Response:
        return _json({"key": self._world.add_session(**await _body(request))}, 201)

    async def edit_session(self, request: Request) -> Response:
        self._world.edit_session(request.path_params["key"], (await _body(request)).get("note"))
        return _json({})

    async def change_audio(self, request: Request) -> Response:
        key, action = request.path_params["key"], request.path_params["action"]
        if action == "step":
            self._world.set_step(key, str((await _body(request))["step"]))
        else:
            world = self._world
            {
                "archive": world.archive,
                "restore": world.restore,
                "touch": world.touch,
                "transcribe": world.transcribe,
            }[action](key)
        return _json({})

    async def delete(self, request: Request) -> Response:
        collection = request.path_params["collection"]
        if collection not in _DELETABLE:
            raise KeyError(collection)
        self._world.delete(collection, request.path_params["key"])
        return _json({})

    async def faults(self, request: Request) -> Response:
        if request.method == "DELETE":
            self._switch.set(None)
            return _json({})
        wanted = await _body(request)
        if set(wanted) - {field.name for field in fields(Faults)}:
            raise ValueError("unknown field")
        if "kinds" in wanted:
            wanted["kinds"] = tuple(Fault(kind) for kind in wanted["kinds"])
        if "apps" in wanted:
            wanted["apps"] = frozenset(wanted["apps"])
        self._switch.set(Faults(**wanted))
        return _json({})

    async def stats(self, request: Request) -> Response:
        if request.method == "DELETE":
            self._stats.reset()
        return _json(self._stats.snapshot())

    async def world(self, _: Request) -> Response:
        counts = {name: len(self._world.records(name)) for name in ("patients", "audios", "notes", "sessions")}
        counts |= {kind: len(self._store.resources(kind)) for kind in ("Composition", "DocumentReference")}
        return _json({"generation": self._world.generation, "now": self._world.now.isoformat(), "counts": counts})

    async def visits(self, _: Request) -> Response:
        return _json(self._world.visits())


async def _body(request: Request) -> dict[str, Any]:
    """The body's JSON object; none is an empty one. What is no object is a `ValueError`, as is what is no JSON."""
    content = await request.body()
    body = orjson.loads(content) if content else {}
    try:
        return dict(body)
    except TypeError:
        raise ValueError("not an object") from None


def _json(content: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")


async def _unknown(_request: Request, _error: Exception) -> Response:
    return _json({"detail": "No such thing."}, 404)


async def _wrong(_request: Request, _error: Exception) -> Response:
    return _json({"detail": "The body does not fit."}, 400)
