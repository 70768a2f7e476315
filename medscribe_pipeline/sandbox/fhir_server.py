"""A small FHIR R4 endpoint over HTTP, honest about what it can do and strict about what it takes.

Create, read, version read, update, their conditional forms, search by identifier, transactions and batches, as its
CapabilityStatement says. Every error is an OperationOutcome. Its `diagnostics` quote what was sent, as those of real
servers do, so that a client which logs them is found out.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import orjson
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from medscribe_pipeline.sandbox.fhir_bundle import process
from medscribe_pipeline.sandbox.fhir_errors import FhirError, Issue, operation_outcome
from medscribe_pipeline.sandbox.fhir_rules import RESOURCE_TYPES
from medscribe_pipeline.sandbox.fhir_store import parse_criteria

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from medscribe_pipeline.sandbox.fhir_store import FhirStore, Stored

__all__ = ["FhirOptions", "fhir_app"]

_MEDIA_TYPE = "application/fhir+json"
_READABLE = frozenset({"application/fhir+json", "application/json", "application/*", "*/*", ""})
_DEFAULT_COUNT = 50
_MAX_COUNT = 500


@dataclass(frozen=True, slots=True)
class FhirOptions:
    """How the endpoint guards itself.

    Attributes:
        token: The bearer token it asks for; `None` lets everybody in.
        max_entries: Entries it takes in one Bundle.
    """

    token: str | None = "sandbox-ehr-token"  # noqa: S105 - known to everybody, good on loopback only
    max_entries: int = 500


def fhir_app(store: FhirStore, options: FhirOptions) -> Starlette:
    """Builds the app around a store."""
    api = _Api(store, options)
    return Starlette(
        routes=[
            Route("/metadata", api.metadata),
            Route("/", api.guarded(api.bundle), methods=["POST"]),
            Route("/{type}", api.guarded(api.search), methods=["GET"]),
            Route("/{type}", api.guarded(api.create), methods=["POST"]),
            Route("/{type}", api.guarded(api.update_where), methods=["PUT"]),
            Route("/{type}/{id}", api.guarded(api.read), methods=["GET"]),
            Route("/{type}/{id}", api.guarded(api.update), methods=["PUT"]),
            Route("/{type}/{id}/_history/{version}", api.guarded(api.read), methods=["GET"]),
        ],
        exception_handlers={404: _not_found, 405: _not_allowed, 500: _failed},
    )


class _Api:
    def __init__(self, store: FhirStore, options: FhirOptions) -> None:
        self._store = store
        self._options = options

    def guarded(self, endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """Checks the token, the media types and the resource type, and turns `FhirError` into its answer."""

        async def guarded_endpoint(request: Request) -> Response:
            try:
                self._admit(request)
                return await endpoint(request)
            except FhirError as error:
                return _outcome(error)

        return guarded_endpoint

    def _admit(self, request: Request) -> None:
        token = self._options.token
        if token is not None and request.headers.get("authorization") != f"Bearer {token}":
            raise FhirError.of(401, "login", "A bearer token is needed.")
        if not {part.partition(";")[0].strip() for part in request.headers.get("accept", "").split(",")} & _READABLE:
            raise FhirError.of(406, "not-supported", "This server speaks JSON.")
        if request.method != "GET":
            sent = request.headers.get("content-type", "").partition(";")[0].strip()
            if sent not in {_MEDIA_TYPE, "application/json"}:
                raise FhirError.of(415, "not-supported", "This server reads JSON.")
        if request.path_params.get("type", RESOURCE_TYPES[0]) not in RESOURCE_TYPES:
            raise FhirError.of(404, "not-supported", "The resource type is not supported.")

    async def metadata(self, _: Request) -> Response:
        return _json(_capabilities())

    async def bundle(self, request: Request) -> Response:
        bundle = await _body(request)
        entries = bundle.get("entry") if isinstance(bundle, dict) else None
        if isinstance(entries, list) and len(entries) > self._options.max_entries:
            raise FhirError.of(413, "too-costly", f"At most {self._options.max_entries} entries.")
        return _json(process(self._store, bundle))

    async def create(self, request: Request) -> Response:
        condition = request.headers.get("if-none-exist")
        unless = None if condition is None else parse_criteria(condition)
        return _stored(request, self._store.create(request.path_params["type"], await _body(request), unless=unless))

    async def update(self, request: Request) -> Response:
        stored = self._store.update(
            request.path_params["type"],
            request.path_params["id"],
            await _body(request),
            if_match=request.headers.get("if-match"),
        )
        return _stored(request, stored)

    async def update_where(self, request: Request) -> Response:
        stored = self._store.update_where(
            request.path_params["type"],
            parse_criteria(request.url.query),
            await _body(request),
            if_match=request.headers.get("if-match"),
        )
        return _stored(request, stored)

    async def read(self, request: Request) -> Response:
        params = request.path_params
        stored = self._store.read(params["type"], params["id"], params.get("version"))
        return _json(stored.resource, headers=_version_headers(stored))

    async def search(self, request: Request) -> Response:
        parameters = request.query_params.multi_items()
        numbers = {"_count": _DEFAULT_COUNT, "_offset": 0}
        selecting = []
        for name, value in parameters:
            if name in numbers:
                if not (value.isascii() and value.isdecimal()):
                    raise FhirError.of(400, "value", f"{name} is a number.")
                numbers[name] = int(value)
            elif name in {"identifier", "_id"}:
                selecting.append((name, value))
            elif name != "_format":
                raise FhirError.of(400, "not-supported", f"The search parameter {name} is not supported.")
        found = self._store.search(request.path_params["type"], selecting)
        count, offset = min(numbers["_count"], _MAX_COUNT), numbers["_offset"]
        base = str(request.base_url).rstrip("/")
        links = [{"relation": "self", "url": str(request.url)}]
        if 0 < count < len(found) - offset:
            following = urlencode([*selecting, ("_count", count), ("_offset", offset + count)])
            links.append({"relation": "next", "url": f"{base}/{request.path_params['type']}?{following}"})
        entries = [
            {
                "fullUrl": f"{base}/{resource['resourceType']}/{resource['id']}",
                "resource": resource,
                "search": {"mode": "match"},
            }
            for resource in found[offset : offset + count]
        ]
        bundle = {"resourceType": "Bundle", "type": "searchset", "total": len(found), "link": links}
        return _json({**bundle, **({"entry": entries} if entries else {})})


def _stored(request: Request, stored: Stored) -> Response:
    """The answer to a write, with the body the client prefers."""
    location = f"{str(request.base_url).rstrip('/')}/{stored.path}"
    headers = {**_version_headers(stored), "location": location}
    preference = request.headers.get("prefer", "").replace(" ", "")
    if "return=minimal" in preference:
        return Response(status_code=stored.status, headers=headers)
    if "return=OperationOutcome" in preference:
        done = operation_outcome(Issue("informational", "Stored."), severity="information")
        return _json(done, stored.status, headers)
    return _json(stored.resource, stored.status, headers)


def _version_headers(stored: Stored) -> dict[str, str]:
    changed_at = datetime.fromisoformat(stored.resource["meta"]["lastUpdated"])
    # `usegmt` wants the UTC object itself, which `fromisoformat` yields for +00:00.
    return {"etag": stored.etag, "last-modified": format_datetime(changed_at, usegmt=True)}


def _capabilities() -> dict[str, Any]:
    resource = {
        "interaction": [{"code": code} for code in ("create", "read", "vread", "update", "search-type")],
        "versioning": "versioned-update",
        "readHistory": True,
        "updateCreate": True,
        "conditionalCreate": True,
        "conditionalRead": "not-supported",
        "conditionalUpdate": True,
        "conditionalDelete": "not-supported",
        "referencePolicy": ["literal", "logical"],
        "searchParam": [{"name": "identifier", "type": "token"}, {"name": "_id", "type": "token"}],
    }
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": "2026-03-01",
        "kind": "instance",
        "software": {"name": "medscribe sandbox"},
        "implementation": {"description": "Loopback only, synthetic data only."},
        "fhirVersion": "4.0.1",
        "format": ["json", _MEDIA_TYPE],
        "rest": [
            {
                "mode": "server",
                "resource": [{"type": name, **resource} for name in RESOURCE_TYPES],
                "interaction": [{"code": "transaction"}, {"code": "batch"}],
            }
        ],
    }


async def _body(request: Request) -> Any:
    try:
        return orjson.loads(await request.body())
    except orjson.JSONDecodeError:
        raise FhirError.of(400, "structure", "The body is not JSON.") from None


def _json(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), status, headers, media_type=_MEDIA_TYPE)


def _outcome(error: FhirError) -> Response:
    return _json(operation_outcome(*error.issues), error.status)


async def _not_found(_request: Request, _error: Exception) -> Response:
    return _outcome(FhirError.of(404, "not-found", "Nothing is here."))


async def _not_allowed(_request: Request, _error: Exception) -> Response:
    return _outcome(FhirError.of(405, "not-supported", "The interaction is not supported."))


async def _failed(_request: Request, _error: Exception) -> Response:
    return _outcome(FhirError.of(500, "exception", "The server failed."))
