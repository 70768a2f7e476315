"""What a server says of a write, read without trusting any of it.

Servers send empty bodies, HTML and shapes of their own; of an OperationOutcome only codes and element paths are kept,
because `diagnostics` may quote the note.

Facts: FHIR R4 RESTful API (https://hl7.org/fhir/R4/http.html), Bundle and OperationOutcome. That a batch answered with
200 may hold entries answered with 429, and where the wait is then told: Azure puts `Retry-After` on the whole answer,
Medplum an extension into the OperationOutcome of the entry.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from medscribe_pipeline.providers.answers import LONGEST_DELAY_S, retry_after_s

if TYPE_CHECKING:
    from collections.abc import Iterator

    from medscribe_pipeline.providers.answers import Answer

__all__ = [
    "EntryOutcome",
    "answer_outcome",
    "as_etag",
    "bundle_outcomes",
    "dicts",
    "is_id",
    "outcome_codes",
    "same_etag",
    "version_etag",
]

_ID = r"[A-Za-z0-9\-.]{1,64}"
_LOCATION = re.compile(
    rf"(?:^|/)(?P<type>[A-Z][A-Za-z]{{1,63}})/(?P<id>{_ID})(?:/_history/(?P<version>{_ID}))?/?$", re.ASCII
)
_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
# An element path. FHIRPath with literals in it (`where(family = 'x')`) could name somebody.
_PATH = re.compile(r"[A-Za-z][A-Za-z0-9]*(\.[A-Za-z][A-Za-z0-9]*(\[[0-9]{1,5}\])?)*")
_LONGEST_PATH = 200
_LONGEST_ETAG = 64
_MOST_CODES = 20
_RESET_EXTENSION = "/rate-limit-reset"


@dataclass(frozen=True, slots=True)
class EntryOutcome:
    """What became of one write: an entry of a Bundle, or a request of its own.

    Attributes:
        status: HTTP status; 0 when the server gave none.
        id: Logical id of the resource, where the server says.
        etag: ETag of the version that is there now, where it says.
        codes: Issue codes, detail codes and element paths of its OperationOutcome.
        type: Resource type the id is of, where the server says.
        retry_after_s: How long to wait before the same is asked again, where it says.
    """

    status: int
    id: str | None
    etag: str | None
    codes: tuple[str, ...]
    type: str | None = field(default=None, compare=False)
    retry_after_s: float | None = field(default=None, compare=False)


def bundle_outcomes(answer: Answer) -> list[EntryOutcome]:
    """The outcome of each entry of a response Bundle, in order; empty for a body that is none."""
    body = answer.body
    if not isinstance(body, dict) or body.get("resourceType") != "Bundle":
        return []
    whole_s = _delay_s(answer)
    return [_entry_outcome(entry, whole_s) for entry in dicts(body.get("entry"))]


def answer_outcome(answer: Answer) -> EntryOutcome:
    """The outcome of a request of its own, success or refusal, from its status, its headers and what body there is."""
    body = answer.body if isinstance(answer.body, dict) else {}
    return _outcome(
        answer.status,
        answer.headers.get("location") or answer.headers.get("content-location"),
        answer.headers.get("etag"),
        body,
        outcome_codes(body),
        _delay_s(answer),
    )


def outcome_codes(body: Any) -> tuple[str, ...]:
    """Issue codes, detail codes and element paths of an OperationOutcome; empty for anything else.

    >>> outcome_codes({"resourceType": "OperationOutcome", "issue": [
    ...     {"code": "value", "diagnostics": "John Doe is unknown", "expression": ["Composition.date"]}]})
    ('value', 'Composition.date')
    """
    if not isinstance(body, dict) or body.get("resourceType") != "OperationOutcome":
        return ()
    return tuple(dict.fromkeys(_issue_codes(body)))[:_MOST_CODES]


def _issue_codes(outcome: dict[str, Any]) -> Iterator[str]:
    for issue in dicts(outcome.get("issue")):
        details = issue.get("details")
        coding = dicts(details.get("coding")) if isinstance(details, dict) else []
        for code in (issue.get("code"), *(each.get("code") for each in coding)):
            if isinstance(code, str) and _CODE.fullmatch(code):
                yield code
        paths = issue.get("expression")
        for path in paths if isinstance(paths, list) else []:
            if isinstance(path, str) and len(path) <= _LONGEST_PATH and _PATH.fullmatch(path):
                yield path


def _entry_outcome(entry: dict[str, Any], whole_s: float | None) -> EntryOutcome:
    response = entry.get("response")
    if not isinstance(response, dict):
        return EntryOutcome(0, None, None, ())
    resource = entry.get("resource")
    outcome = response.get("outcome")
    own_s = _reset_s(outcome) if isinstance(outcome, dict) else None
    return _outcome(
        _status(response.get("status")),
        response.get("location"),
        response.get("etag"),
        resource if isinstance(resource, dict) else {},
        outcome_codes(outcome),
        whole_s if own_s is None else own_s,
    )


def _outcome(
    status: int,
    location: object,
    etag: object,
    resource: dict[str, Any],
    codes: tuple[str, ...],
    retry_after_s: float | None,
) -> EntryOutcome:
    """Location first, relative or absolute, with or without a version; then the resource, where it was sent along."""
    place = _LOCATION.search(str(location or "").partition("?")[0])
    version = place["version"] if place else None
    known = resource if resource.get("resourceType") != "OperationOutcome" and is_id(resource.get("id")) else {}
    kind = place["type"] if place else known.get("resourceType")
    return EntryOutcome(
        status=status,
        id=place["id"] if place else known.get("id"),
        etag=as_etag(etag) or (f'W/"{version}"' if version else None) or version_etag(known),
        codes=codes,
        type=kind if isinstance(kind, str) else None,
        retry_after_s=retry_after_s,
    )


def _status(value: object) -> int:
    """The number in front: R4 allows `201` and `201 Created`."""
    digits = str(value or "").strip()[:3]
    return int(digits) if digits.isascii() and digits.isdigit() else 0


def _delay_s(answer: Answer) -> float | None:
    return retry_after_s(answer.headers.get("retry-after"), answer.server_time or answer.sent_at)


def _reset_s(outcome: dict[str, Any]) -> float | None:
    """The wait an OperationOutcome tells by an extension, in seconds, on itself or on one of its issues."""
    for holder in (outcome, *dicts(outcome.get("issue"))):
        for extension in dicts(holder.get("extension")):
            value = extension.get("valueUnsignedInt")
            named = str(extension.get("url", "")).endswith(_RESET_EXTENSION)
            if named and isinstance(value, int) and not isinstance(value, bool) and value >= 0:
                return min(float(value), LONGEST_DELAY_S)
    return None


def version_etag(resource: dict[str, Any]) -> str | None:
    """The ETag of the version a resource says it is."""
    meta = resource.get("meta")
    version = meta.get("versionId") if isinstance(meta, dict) else None
    return as_etag(version) if isinstance(version, str) else None


def as_etag(value: object) -> str | None:
    """An ETag as it goes into If-Match. Some servers leave the quotes out; FHIR's ETags are weak."""
    if not isinstance(value, str) or not value.strip() or not value.isascii() or not value.isprintable():
        return None
    text = value.strip()
    etag = text if text.endswith('"') else f'W/"{text.removeprefix("W/")}"'
    return etag if len(etag) <= _LONGEST_ETAG else None


def same_etag(one: str, other: str) -> bool:
    """Whether two ETags name the same version: by the weak comparison of RFC 9110, section 8.8.3.2.

    A server may write the same tag as weak in one place and as strong in another.

    >>> same_etag('W/"3"', '"3"')
    True
    """
    return one.removeprefix("W/") == other.removeprefix("W/")


def is_id(value: object) -> bool:
    """Whether it can be a logical id, and so may stand in a URL."""
    return isinstance(value, str) and re.fullmatch(_ID, value) is not None


def dicts(value: object) -> list[dict[str, Any]]:
    """The objects of a list; nothing of what is no list."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
