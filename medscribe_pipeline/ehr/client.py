"""FHIR over HTTP, R4 or R5: search, read, transaction, and what the answers mean.

Answers are read defensively. Servers send empty bodies, HTML and shapes of their own; of an OperationOutcome only
codes and element paths are kept, because `diagnostics` may quote the note.

Facts: FHIR R4 RESTful API (https://hl7.org/fhir/R4/http.html), Bundle and OperationOutcome.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal

from medscribe_pipeline.errors import ConfigError, MedscribeError, ProviderContractError, Retriable
from medscribe_pipeline.providers.http import Refused, Unsettled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from medscribe_pipeline.providers.http import HttpClient

__all__ = ["EntryOutcome", "FhirClient", "Found", "carries", "outcome_codes", "provably_unsent"]

_FHIR_JSON = "application/fhir+json"
_HEADERS = {"Accept": _FHIR_JSON, "Content-Type": _FHIR_JSON}
# HAPI answers a search from its cache for a minute unless told not to; ours ask whether something arrived just now.
_FRESH = {"Accept": _FHIR_JSON, "Cache-Control": "no-cache"}

# R4 4.0.1, and R4B 4.3.0, which is the same for the resources we send. R5 is 5.0.0.
_VERSIONS = {"R4": ("4.0", "4.3"), "R5": ("5.0",)}

# Without an OperationOutcome these say that nobody here speaks FHIR; a resource that is wrong gets one.
_NO_ENDPOINT = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.NOT_ACCEPTABLE, HTTPStatus.UNSUPPORTED_MEDIA_TYPE})

_ID = r"[A-Za-z0-9\-.]{1,64}"
_LOCATION = re.compile(rf"(?:^|/)[A-Z][A-Za-z]{{1,63}}/(?P<id>{_ID})(?:/_history/(?P<version>{_ID}))?/?$")
_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
# An element path. FHIRPath with literals in it (`where(family = 'x')`) could name somebody.
_PATH = re.compile(r"[A-Za-z][A-Za-z0-9]*(\.[A-Za-z][A-Za-z0-9]*(\[[0-9]{1,5}\])?)*")
_MAX_ETAG = 64
_MAX_CODES = 20


@dataclass(frozen=True, slots=True)
class Found:
    """A resource as the server holds it. `etag` is `None` where the server tells no version."""

    id: str
    etag: str | None
    resource: dict[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class EntryOutcome:
    """What became of one entry of a transaction.

    Attributes:
        status: HTTP status of the entry; 0 when the server gave none.
        id: Logical id of the resource, where the server says.
        etag: ETag of the version that is there now, where it says.
        codes: Issue codes, detail codes and element paths of its OperationOutcome.
    """

    status: int
    id: str | None
    etag: str | None
    codes: tuple[str, ...]


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
        self._lock = threading.Lock()

    @property
    def requests(self) -> int:
        """HTTP requests sent so far, retries included."""
        return self._http.stats.requests

    def check_version(self) -> None:
        """Asks once whether the server speaks our release; see `capabilities`."""
        with self._lock:
            if not self._checked:
                self.capabilities()
                self._checked = True

    def capabilities(self) -> dict[str, Any] | None:
        """The server's CapabilityStatement; `None` from a server that keeps it to itself.

        Raises:
            ConfigError: `fhir_endpoint`: the base URL leads elsewhere. `fhir_version`: the server speaks
                another release.
        """
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
        for entry in _dicts(bundle.get("entry")):
            resource = entry.get("resource")
            if not isinstance(resource, dict) or resource.get("resourceType") == "OperationOutcome":
                continue
            known = _found(resource)
            if known is None or not carries(resource, system, value):
                raise _no_searchset(answer.status)
            found.append(known)
        return found

    def read(self, kind: str, server_id: str) -> Found | None:
        """The resource with that logical id; `None` when the server has none (any more)."""
        try:
            answer = self._http.request("GET", f"{kind}/{server_id}", headers=_FRESH, repeat=True)
        except Refused as error:
            if error.status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
                return None
            raise
        if not isinstance(answer.body, dict):
            raise ProviderContractError("The EHR's answer is no resource", code="read", status=answer.status)
        return Found(server_id, _etag(answer.headers.get("etag")) or _version_etag(answer.body), answer.body)

    def transaction(self, bundle: dict[str, Any]) -> list[EntryOutcome]:
        """Sends a transaction, once, and returns what became of each entry, in order.

        The list is empty when the server answered 2xx with something else than a Bundle: the caller cannot know.

        Raises:
            Refused: The server refused the whole (`outcome_codes(error.answer.body)` says why).
            ConfigError: `credentials`, or `fhir_endpoint`: nobody takes transactions at the base URL.
            Unsettled: It may have been carried out.
            Retriable, Deferred: It surely was not.
        """
        try:
            answer = self._http.request(
                "POST",
                "",
                json=bundle,
                headers={**_HEADERS, "Prefer": "return=minimal"},
                repeat=False,
                throttle_is_refusal=True,
            )
        except Refused as error:
            foreign = error.status in _NO_ENDPOINT and not outcome_codes(error.answer.body)
            if foreign or error.status == HTTPStatus.METHOD_NOT_ALLOWED:
                raise _no_endpoint(error.status) from None
            raise
        body = answer.body
        if not isinstance(body, dict) or body.get("resourceType") != "Bundle":
            return []
        return [_entry_outcome(entry) for entry in _dicts(body.get("entry"))]


def provably_unsent(error: MedscribeError) -> bool:
    """Whether a failed transaction surely had no effect, so that it may simply be sent another time.

    The HTTP client raises `Unsettled` for whatever may have been carried out, and every other `Retriable` only when
    the request never left or the server said that it did nothing. A redirect is not followed by a write.
    """
    if isinstance(error, Retriable):
        return not isinstance(error, Unsettled)
    return isinstance(error, ConfigError) or error.code in ("redirect", "path")


def outcome_codes(body: Any) -> tuple[str, ...]:
    """Issue codes, detail codes and element paths of an OperationOutcome; empty for anything else.

    >>> outcome_codes({"resourceType": "OperationOutcome", "issue": [
    ...     {"code": "value", "diagnostics": "John Doe is unknown", "expression": ["Composition.date"]}]})
    ('value', 'Composition.date')
    """
    if not isinstance(body, dict) or body.get("resourceType") != "OperationOutcome":
        return ()
    return tuple(dict.fromkeys(_issue_codes(body)))[:_MAX_CODES]


def carries(resource: dict[str, Any], system: str, value: str) -> bool:
    """Whether a Composition or DocumentReference has that identifier, `masterIdentifier` included."""
    identifiers = resource.get("identifier")
    listed = identifiers if isinstance(identifiers, list) else [identifiers]
    return any(
        isinstance(each, dict) and (each.get("system"), each.get("value")) == (system, value)
        for each in (*listed, resource.get("masterIdentifier"))
    )


def _issue_codes(outcome: dict[str, Any]) -> Iterator[str]:
    for issue in _dicts(outcome.get("issue")):
        details = issue.get("details")
        coding = _dicts(details.get("coding")) if isinstance(details, dict) else []
        for code in (issue.get("code"), *(each.get("code") for each in coding)):
            if isinstance(code, str) and _CODE.fullmatch(code):
                yield code
        paths = issue.get("expression")
        for path in paths if isinstance(paths, list) else []:
            if isinstance(path, str) and len(path) <= 200 and _PATH.fullmatch(path):  # noqa: PLR2004 - no real path is longer
                yield path


def _entry_outcome(entry: dict[str, Any]) -> EntryOutcome:
    response = entry.get("response")
    if not isinstance(response, dict):
        return EntryOutcome(0, None, None, ())
    resource = entry.get("resource")
    known = _found(resource) if isinstance(resource, dict) else None
    location = _LOCATION.search(str(response.get("location") or "").partition("?")[0])
    version = location["version"] if location else None
    etag = _etag(response.get("etag")) or (f'W/"{version}"' if version else None)
    return EntryOutcome(
        status=_status(response.get("status")),
        id=location["id"] if location else known.id if known else None,
        etag=etag or (known.etag if known else None),
        codes=outcome_codes(response.get("outcome")),
    )


def _status(value: object) -> int:
    """The number in front: R4 allows `201` and `201 Created`."""
    digits = str(value or "").strip()[:3]
    return int(digits) if digits.isascii() and digits.isdigit() else 0


def _found(resource: dict[str, Any]) -> Found | None:
    server_id = resource.get("id")
    if not isinstance(server_id, str) or not re.fullmatch(_ID, server_id):
        return None
    return Found(server_id, _version_etag(resource), resource)


def _version_etag(resource: dict[str, Any]) -> str | None:
    meta = resource.get("meta")
    version = meta.get("versionId") if isinstance(meta, dict) else None
    return _etag(version) if isinstance(version, str) else None


def _etag(value: object) -> str | None:
    """An ETag as it goes into If-Match. Some servers leave the quotes out; FHIR's ETags are weak."""
    if not isinstance(value, str) or not value.strip() or not value.isascii() or not value.isprintable():
        return None
    text = value.strip()
    etag = text if text.endswith('"') else f'W/"{text.removeprefix("W/")}"'
    return etag if len(etag) <= _MAX_ETAG else None


def _dicts(value: object) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _no_endpoint(status: int | None) -> ConfigError:
    return ConfigError(
        "There is no FHIR endpoint at MEDSCRIBE_EHR_BASE_URL; check the URL", code="fhir_endpoint", status=status
    )


def _no_searchset(status: int) -> ProviderContractError:
    return ProviderContractError("The EHR does not answer a search by identifier", code="search", status=status)
