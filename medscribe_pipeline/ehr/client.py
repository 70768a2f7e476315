"""FHIR over HTTP, R4 or R5: search, read, create, update and Bundle. What the answers say is read by `outcomes.py`.

A write is sent once, unless it surely took no effect; what else may be repeated is for the caller to know.

Facts: FHIR R4 RESTful API (https://hl7.org/fhir/R4/http.html).
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal

from medscribe_pipeline.ehr.outcomes import (
    EntryOutcome,
    answer_outcome,
    as_etag,
    bundle_outcomes,
    dicts,
    is_id,
    outcome_codes,
    version_etag,
)
from medscribe_pipeline.errors import ConfigError, MedscribeError, ProviderContractError, Retriable
from medscribe_pipeline.providers.http import Refused, Unsettled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from medscribe_pipeline.providers.http import Answer, HttpClient

    Body = dict[str, Any] | bytes

__all__ = ["EntryOutcome", "FhirClient", "Found", "Page", "carries", "outcome_codes", "provably_unsent"]

_FHIR_JSON = "application/fhir+json"
_HEADERS = {"Accept": _FHIR_JSON, "Content-Type": _FHIR_JSON}
# HAPI answers a search from its cache for a minute unless told not to; ours ask whether something arrived just now.
_FRESH = {"Accept": _FHIR_JSON, "Cache-Control": "no-cache"}

# R4 4.0.1, and R4B 4.3.0, which is the same for the resources we send. R5 is 5.0.0.
_VERSIONS = {"R4": ("4.0", "4.3"), "R5": ("5.0",)}

# Without an OperationOutcome these say that nobody here speaks FHIR; a resource that is wrong gets one.
_NO_ENDPOINT = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.NOT_ACCEPTABLE, HTTPStatus.UNSUPPORTED_MEDIA_TYPE})


@dataclass(frozen=True, slots=True)
class Found:
    """A resource as the server holds it. `etag` is `None` where the server tells no version."""

    id: str
    etag: str | None
    resource: dict[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Page:
    """The first page of a search, and whether the server has more than that."""

    found: list[Found]
    more: bool


class FhirClient:
    """The FHIR calls delivery needs. Share it between threads.

    Args:
        http: Client of the EHR's base URL.
        release: Release of what is sent, which the server has to speak.
    """

    def __init__(self, http: HttpClient, release: Literal["R4", "R5"] = "R4") -> None:
        self._http = http
        self._release = release
        self._checked = False
        self._statement: dict[str, Any] | None = None
        self._lock = threading.Lock()

    @property
    def release(self) -> Literal["R4", "R5"]:
        """Release of what is sent."""
        return self._release

    @property
    def requests(self) -> int:
        """HTTP requests sent so far, retries included."""
        return self._http.stats.requests

    def capabilities(self) -> dict[str, Any] | None:
        """The server's CapabilityStatement, asked for once; `None` from a server that keeps it to itself.

        Raises:
            ConfigError: `fhir_endpoint`: the base URL leads elsewhere. `fhir_version`: the server speaks
                another release.
            Retriable, Deferred: It does not answer; the next call asks again.
        """
        with self._lock:
            if not self._checked:
                self._statement = self._ask_capabilities()
                self._checked = True
            return self._statement

    def _ask_capabilities(self) -> dict[str, Any] | None:
        try:
            answer = self._http.request("GET", "metadata", headers=_FRESH, repeat=True)
        except Refused:
            return None
        except ProviderContractError as error:
            raise _no_endpoint(error.status) from None
        statement = answer.body
        if not isinstance(statement, dict) or statement.get("resourceType") != "CapabilityStatement":
            raise _no_endpoint(answer.status)
        version = statement.get("fhirVersion")
        if not isinstance(version, str) or not version.startswith(_VERSIONS[self._release]):
            raise ConfigError(
                f"The FHIR server is not {self._release}; set MEDSCRIBE_EHR_BASE_URL to its {self._release} endpoint, "
                "or MEDSCRIBE_FHIR_RELEASE to what it speaks",
                code="fhir_version",
            )
        return statement

    def search(self, kind: str, system: str, value: str) -> list[Found]:
        """Resources of `kind` with that identifier: the first page, more than one is too many already.

        Raises:
            ProviderContractError: `search`: the answer is no searchset, or holds what was not asked for; then
                nothing follows from what it does not hold.
            Refused, Retriable, ConfigError: As the HTTP client.
        """
        answer = self._http.request(
            "GET", kind, params=[("identifier", f"{system}|{value}")], headers=_FRESH, repeat=True
        )
        bundle = answer.body
        if not isinstance(bundle, dict) or bundle.get("resourceType") != "Bundle":
            raise _no_searchset(answer.status)
        found = []
        for entry in dicts(bundle.get("entry")):
            resource = entry.get("resource")
            if not isinstance(resource, dict) or resource.get("resourceType") == "OperationOutcome":
                continue
            known = _found(resource)
            if known is None or not carries(resource, system, value):
                raise _no_searchset(answer.status)
            found.append(known)
        return found

    def query(self, kind: str, params: Sequence[tuple[str, str]]) -> Page:
        """The first page of a search by any parameters; whether the resources are what was asked for is not looked at.

        Raises:
            ProviderContractError: `search`: the answer is no searchset, or holds resources of another type.
            Refused, Retriable, ConfigError: As the HTTP client.
        """
        answer = self._http.request("GET", kind, params=params, headers=_FRESH, repeat=True)
        bundle = answer.body
        if not isinstance(bundle, dict) or bundle.get("resourceType") != "Bundle":
            raise _no_searchset(answer.status)
        found = []
        for entry in dicts(bundle.get("entry")):
            resource = entry.get("resource")
            if isinstance(resource, dict) and resource.get("resourceType") == "OperationOutcome":
                continue
            known = _found(resource) if isinstance(resource, dict) and resource.get("resourceType") == kind else None
            if known is None:
                raise _no_searchset(answer.status)
            found.append(known)
        total = bundle.get("total")
        all_there = isinstance(total, int) and total <= len(found)
        more = any(link.get("relation") == "next" for link in dicts(bundle.get("link"))) and not all_there
        return Page(found, more)

    def read(self, kind: str, server_id: str) -> Found | None:
        """The resource with that logical id; `None` when the server has none (any more).

        Raises:
            ProviderContractError: `read`: the answer is something else, and nothing follows from it.
            Refused, Retriable, ConfigError: As the HTTP client.
        """
        try:
            answer = self._http.request("GET", f"{kind}/{server_id}", headers=_FRESH, repeat=True)
        except Refused as error:
            if error.status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
                return None
            raise
        if not isinstance(answer.body, dict) or answer.body.get("resourceType") != kind:
            raise ProviderContractError("The EHR's answer is not the resource", code="read", status=answer.status)
        return Found(server_id, as_etag(answer.headers.get("etag")) or version_etag(answer.body), answer.body)

    def create(
        self,
        kind: str,
        resource: Body,
        *,
        condition: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> EntryOutcome:
        """Creates a resource, with one request.

        Args:
            kind: Resource type.
            resource: The resource without an id, as a dict or as JSON.
            condition: `If-None-Exist`: a search that must find nothing, percent-encoded.
            headers: Further headers.

        Returns:
            What the server says, a refusal (4xx) included.

        Raises:
            ConfigError: `credentials`, or `fhir_endpoint`: nobody takes this type at the base URL.
            Unsettled: It may have been carried out.
            Retriable, Deferred: It surely was not.
        """
        conditions = {"If-None-Exist": condition} if condition else {}
        try:
            return answer_outcome(self._write("POST", kind, resource, {**conditions, **(headers or {})}))
        except Refused as error:
            if _is_no_endpoint(error):
                raise _no_endpoint(error.status) from None
            return answer_outcome(error.answer)

    def update(self, kind: str, server_id: str, resource: Body, *, if_match: str | None = None) -> EntryOutcome:
        """Replaces a resource, with one request; only the version `if_match` names, if given.

        Returns and raises as `create`, save that a missing resource (404) is a refusal like any other.
        """
        conditions = {"If-Match": if_match} if if_match else {}
        try:
            return answer_outcome(self._write("PUT", f"{kind}/{server_id}", resource, conditions))
        except Refused as error:
            return answer_outcome(error.answer)

    def bundle(self, bundle: Body) -> list[EntryOutcome]:
        """Sends a transaction or a batch, once, and returns what became of each entry, in order.

        The list is empty when the server answered 2xx with something else than a Bundle: the caller cannot know.

        Raises:
            Refused: The server refused the whole (`outcome_codes(error.answer.body)` says why).
            ConfigError: `credentials`, or `fhir_endpoint`: nobody takes Bundles at the base URL.
            Unsettled: It may have been carried out.
            Retriable, Deferred: It surely was not.
        """
        try:
            return bundle_outcomes(self._write("POST", "", bundle, {}, any_body=False))
        except Refused as error:
            if _is_no_endpoint(error):
                raise _no_endpoint(error.status) from None
            raise

    def hold(self, delay_s: float | None) -> None:
        """Lets no request leave for so long: what of a Bundle was put off wants to be asked again later."""
        self._http.hold(delay_s)

    def _write(
        self, method: str, path: str, body: Body, headers: Mapping[str, str], *, any_body: bool = True
    ) -> Answer:
        return self._http.request(
            method,
            path,
            json=body,
            # Said outright: a server without a default of its own makes the worst of silence.
            headers={**_HEADERS, "Prefer": "return=minimal", **headers},
            repeat=False,
            throttle_is_refusal=True,
            any_body=any_body,
        )


def provably_unsent(error: MedscribeError) -> bool:
    """Whether a failed transaction surely had no effect, so that it may simply be sent another time.

    The HTTP client raises `Unsettled` for whatever may have been carried out, and every other `Retriable` only when
    the request never left or the server said that it did nothing. A redirect is not followed by a write.
    """
    if isinstance(error, Retriable):
        return not isinstance(error, Unsettled)
    return isinstance(error, ConfigError) or error.code in ("redirect", "path")


def carries(resource: dict[str, Any], system: str, value: str) -> bool:
    """Whether a Composition or DocumentReference has that identifier, `masterIdentifier` included."""
    identifiers = resource.get("identifier")
    listed = identifiers if isinstance(identifiers, list) else [identifiers]
    return any(
        isinstance(each, dict) and (each.get("system"), each.get("value")) == (system, value)
        for each in (*listed, resource.get("masterIdentifier"))
    )


def _found(resource: dict[str, Any]) -> Found | None:
    server_id = resource.get("id")
    return Found(str(server_id), version_etag(resource), resource) if is_id(server_id) else None


def _is_no_endpoint(error: Refused) -> bool:
    """Whether nobody there speaks FHIR, or takes this: it is not the resource that is wrong."""
    foreign = error.status in _NO_ENDPOINT and not outcome_codes(error.answer.body)
    return foreign or error.status == HTTPStatus.METHOD_NOT_ALLOWED


def _no_endpoint(status: int | None) -> ConfigError:
    return ConfigError(
        "There is no FHIR endpoint at MEDSCRIBE_EHR_BASE_URL; check the URL", code="fhir_endpoint", status=status
    )


def _no_searchset(status: int) -> ProviderContractError:
    return ProviderContractError("The EHR does not answer a search by identifier", code="search", status=status)
