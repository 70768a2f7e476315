r"""Asking a FHIR server who and where: one question, and what its answer is worth.

A note in the wrong chart is worse than a note that waits, so an answer counts only when it can be read in one way.

| the server shows | then |
|---|---|
| one resource in use that carries the identifier | `found` |
| none | `missing` |
| several in use; none in use; more than one page; one that does not carry the identifier | `ambiguous` |
| one Patient out of use that is `replaced-by` another | the other, if that one is in use |
| 400 or 422: this search, not every search | `refused` |
| 401, 403, or no such search at all (404, 405) | `ConfigError`: nothing is known |
| no answer, or none anybody can read | as the HTTP client raises it: nothing is known |

The replacement is followed because FHIR defines it so: the resource "must no longer be used", and the link points to
the one to use in its place. It is followed once. A chain, or a second link, is for a person to look at.

An encounter by time is the one encounter of the patient whose period overlaps the visit. Where one of them cannot be
placed in time (no start, a date without time) or is of nobody, nothing is certain: `ambiguous`.

Facts: FHIR R4 Patient (`active`, `link.type`), Encounter (`status`, `subject`, `period`), dateTime, and search
(token and date parameters; `\`, `$`, `,` and `|` in a value are escaped).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal

from medscribe_pipeline.ehr.client import carries
from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.fhir.elements import instant
from medscribe_pipeline.providers.http import CredentialsError, Refused

if TYPE_CHECKING:
    from medscribe_pipeline.ehr.client import FhirClient, Found

__all__ = [
    "ENCOUNTER",
    "PATIENT",
    "PRACTITIONER",
    "Answer",
    "ReferenceKind",
    "ReferenceState",
    "Span",
    "encounter_by_time",
    "resource_by_identifier",
]

ReferenceKind = Literal["Patient", "Practitioner", "Encounter"]

PATIENT: ReferenceKind = "Patient"
PRACTITIONER: ReferenceKind = "Practitioner"
ENCOUNTER: ReferenceKind = "Encounter"

# These never took place, whatever their identifiers and times say.
_VOID = ("cancelled", "entered-in-error")
_PATIENT_REFERENCE = re.compile(r"(?:^|/)Patient/(?P<id>[A-Za-z0-9\-.]{1,64})(?:/_history/[A-Za-z0-9\-.]{1,64})?$")
_TOKEN_MARKS = re.compile(r"[\\$,|]")
# A dateTime to the second, with its offset; R4 also has dates alone, which lie in no certain time zone.
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})")
_THIS_SEARCH = (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY)
_FOR_EVER = datetime.max.replace(tzinfo=UTC)


class ReferenceState(StrEnum):
    """What is known about a patient, clinician or encounter on a target.

    `MISMATCH` is never kept: the encounter is there, but it is another patient's than the note's.
    """

    FOUND = "found"
    MISSING = "missing"
    AMBIGUOUS = "ambiguous"
    REFUSED = "refused"
    MISMATCH = "mismatch"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server says: the logical id when found; for an encounter also that of its patient, where known."""

    state: ReferenceState
    server_id: str | None = None
    subject_id: str | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time, both ends aware; a moment where they are equal."""

    start: datetime
    end: datetime

    def overlaps(self, other: Span) -> bool:
        """Whether they share time; stretches that only touch do not, but a moment at the edge of a stretch does."""
        start, end = max(self.start, other.start), min(self.end, other.end)
        return start < end or (start == end and (self.start == self.end or other.start == other.end))


def resource_by_identifier(client: FhirClient, kind: ReferenceKind, system: str, value: str) -> Answer:
    """Looks for the one resource in use that carries an identifier.

    Raises:
        ConfigError: `reference_search`: the server does not let us search such resources; `credentials`.
        ProviderContractError: `search` or `read`: the answer cannot be read.
        Retriable, Deferred: There was no answer.
    """
    found, more = _search(client, kind, [("identifier", f"{_escaped(system)}|{_escaped(value)}")])
    if found is None:
        return Answer(ReferenceState.REFUSED)
    if more or not all(carries(each.resource, system, value) for each in found):
        # The rest may hold another one, or the server did not heed the parameter.
        return Answer(ReferenceState.AMBIGUOUS)
    if kind == ENCOUNTER:
        return _encounter(found)
    usable = [each for each in found if _in_use(each)]
    if len(usable) == 1:
        return Answer(ReferenceState.FOUND, usable[0].id)
    if kind == PATIENT and len(found) == 1 and (heir := _heir(client, found[0])):
        return Answer(ReferenceState.FOUND, heir)
    return Answer(ReferenceState.AMBIGUOUS if found else ReferenceState.MISSING)


def encounter_by_time(client: FhirClient, patient_id: str, visit: Span) -> Answer:
    """Looks for the one encounter of a patient that overlaps a visit.

    Args:
        client: The target.
        patient_id: Logical id of the patient.
        visit: When the visit was.

    Raises:
        As `resource_by_identifier`.
    """
    params = [
        ("patient", f"{PATIENT}/{patient_id}"),
        ("date", f"ge{instant(visit.start)}"),
        ("date", f"le{instant(visit.end)}"),
    ]
    found, more = _search(client, ENCOUNTER, params)
    if found is None:
        return Answer(ReferenceState.REFUSED, subject_id=patient_id)
    real = [each for each in found if each.resource.get("status") not in _VOID]
    spans = [_span(each.resource) for each in real]
    certain = not more and None not in spans and all(_subject(each) == patient_id for each in real)
    fitting = [each for each, span in zip(real, spans, strict=True) if span is None or span.overlaps(visit)]
    if not certain or len(fitting) > 1:
        return Answer(ReferenceState.AMBIGUOUS, subject_id=patient_id)
    if not fitting:
        return Answer(ReferenceState.MISSING, subject_id=patient_id)
    return Answer(ReferenceState.FOUND, fitting[0].id, patient_id)


def _search(client: FhirClient, kind: ReferenceKind, params: list[tuple[str, str]]) -> tuple[list[Found] | None, bool]:
    """What is on the first page (`None` when the server refuses these values), and whether there is more."""
    try:
        page = client.query(kind, params)
    except Refused as error:
        if error.status in _THIS_SEARCH:
            return None, False
        raise _no_search(kind, error.status) from None
    except CredentialsError as error:
        if error.status != HTTPStatus.FORBIDDEN:
            raise
        raise _no_search(kind, error.status) from None
    return page.found, page.more


def _no_search(kind: ReferenceKind, status: int | None) -> ConfigError:
    return ConfigError(
        "The EHR does not let us search for the patients, clinicians or encounters of our notes. Give the credentials "
        "the right to search this resource type, or enter all of them by `medscribe links import`",
        code="reference_search",
        status=status,
        context={"resource": kind},
    )


def _escaped(value: str) -> str:
    return _TOKEN_MARKS.sub(r"\\\g<0>", value)


def _encounter(found: list[Found]) -> Answer:
    real = [each for each in found if each.resource.get("status") not in _VOID]
    if len(real) == 1:
        return Answer(ReferenceState.FOUND, real[0].id, _subject(real[0]))
    return Answer(ReferenceState.AMBIGUOUS if real else ReferenceState.MISSING)


def _in_use(found: Found) -> bool:
    return found.resource.get("active") is not False and not _replacements(found)


def _replacements(found: Found) -> list[Any]:
    links = found.resource.get("link")
    listed = links if isinstance(links, list) else []
    return [each.get("other") for each in listed if isinstance(each, dict) and each.get("type") == "replaced-by"]


def _heir(client: FhirClient, found: Found) -> str | None:
    """The Patient another one was merged into; `None` unless there is exactly one, and it is in use itself."""
    replacements = _replacements(found)
    # Relative only: an absolute one may lead to another server, where the id is somebody else's.
    here = len(replacements) == 1 and str(_literal(replacements[0])).startswith(f"{PATIENT}/")
    server_id = _patient_id(replacements[0]) if here else None
    heir = client.read(PATIENT, server_id) if server_id else None
    if heir is None or heir.resource.get("resourceType") != PATIENT or not _in_use(heir):
        return None
    return server_id


def _subject(encounter: Found) -> str | None:
    return _patient_id(encounter.resource.get("subject"))


def _patient_id(reference: object) -> str | None:
    literal = _literal(reference)
    known = _PATIENT_REFERENCE.search(literal) if literal else None
    return known["id"] if known else None


def _literal(reference: object) -> str | None:
    literal = reference.get("reference") if isinstance(reference, dict) else None
    return literal if isinstance(literal, str) else None


def _span(encounter: dict[str, Any]) -> Span | None:
    """When an encounter was or is; `None` when that cannot be told. Without an end it goes on."""
    period = encounter.get("period")
    if not isinstance(period, dict):
        return None
    start, end = _moment(period.get("start")), _moment(period.get("end", _FOR_EVER))
    return Span(start, end) if start and end and start <= end else None


def _moment(value: object) -> datetime | None:
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str) or not _MOMENT.fullmatch(value):
        return None
    try:
        return datetime.fromisoformat(value).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
