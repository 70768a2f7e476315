"""The synthetic document a self-test sends: made anew for each run, and fitted to the target as every note is.

Its identifiers are made of the id of the run, so nothing in a chart can be hit by them. Its title and its words say
that it is synthetic, because somebody may come across it before it is withdrawn.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from medscribe_pipeline.ehr.fitting import Unfit, fit
from medscribe_pipeline.ehr.ledger import Key
from medscribe_pipeline.ehr.lookup import ENCOUNTER, PATIENT, PRACTITIONER, ReferenceState, resource_by_identifier
from medscribe_pipeline.ehr.outcomes import is_id
from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.fhir.documents import build_documents
from medscribe_pipeline.fhir.elements import note_date
from medscribe_pipeline.fhir.synthetic import synthetic_note
from medscribe_pipeline.notes import Identifier, NoteSection, NoteState, Practitioner, content_hash, stable_id
from medscribe_pipeline.providers.http import CredentialsError, Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from medscribe_pipeline.ehr.client import FhirClient
    from medscribe_pipeline.ehr.targets import Capabilities
    from medscribe_pipeline.fhir.options import BuildOptions
    from medscribe_pipeline.notes import ScribeNote

    Resource = dict[str, Any]

__all__ = ["RETRACTED", "People", "Placed", "Specimen", "Version", "place"]

RETRACTED = 0
"""Stands for the number of the version that withdraws the document."""

_SYSTEM = "https://example.org/synthetic"
_ACCOUNT = "selftest"

_WHAT_IS_MISSING = {
    "author_required": "It wants to know an author it knows: name one with --practitioner-id",
    "encounter_required": "It wants to know the encounter: name one of the test patient with --encounter-id",
    "patient_missing": "It wants to know the patient by an id of its own: name a test patient with --patient-id",
}


@dataclass(frozen=True, slots=True)
class People:
    """Whom and what the document is about, as the operator names them.

    Attributes:
        patient: Identifier system and value of a test patient.
        patient_id: Logical id of a test patient on the server, instead.
        practitioner_id: Logical id of a clinician there.
        encounter_id: Logical id of an encounter of the test patient there.
    """

    patient: tuple[str, str] | None = field(default=None, repr=False)
    patient_id: str | None = field(default=None, repr=False)
    practitioner_id: str | None = field(default=None, repr=False)
    encounter_id: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Placed:
    """People as a target knows them.

    Attributes:
        patient: The patient's identifier, in the note.
        subject: Literal reference of the patient, where the target is given one.
        references: Where everybody is on the target, as `fit` takes it.
        encounter: Literal reference of the encounter.
        warning: What the operator must know of the patient; empty when it was found.
    """

    patient: Identifier = field(repr=False)
    subject: str | None = field(repr=False)
    references: Mapping[tuple[str, str, str], str] = field(repr=False)
    encounter: str | None = field(repr=False)
    warning: str = ""


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a specimen: its key in no ledger, and its documents as the target takes them."""

    key: Key
    resources: Mapping[str, Resource] = field(repr=False)

    def only(self, *kinds: str) -> Version:
        """The same without its other documents."""
        return Version(self.key, {kind: resource for kind, resource in self.resources.items() if kind in kinds})


def place(client: FhirClient, people: People, capabilities: Capabilities, run_id: str) -> Placed:
    """Finds out where the test patient is, as far as the target has to be told.

    Raises:
        ConfigError: `patient`, `patient_missing`, `patient_ambiguous`, `patient_refused`: no such test patient is
            given, or found. `reference_search`: patients cannot be searched there.
        Retriable: The server cannot be reached.
    """
    for option, value in (
        ("--patient-id", people.patient_id),
        ("--practitioner-id", people.practitioner_id),
        ("--encounter-id", people.encounter_id),
    ):
        if value is not None and not is_id(value):
            raise ConfigError(f"{option} is no logical id of FHIR, such as 123", code="patient")
    literal = capabilities.references == "literal"
    if people.patient is None and people.patient_id is None and literal:
        raise ConfigError(
            "This target wants a patient it knows; name a test patient with --patient or --patient-id", code="patient"
        )
    patient = Identifier(*people.patient) if people.patient else Identifier(f"{_SYSTEM}/patient", f"selftest-{run_id}")
    subject, warning = _subject(client, people, literal=literal)
    references = {
        (PATIENT, patient.system, patient.value): subject,
        (PRACTITIONER, f"{_SYSTEM}/clinician", f"selftest-{run_id}"): _literal(PRACTITIONER, people.practitioner_id),
    }
    return Placed(
        patient,
        subject,
        {name: known for name, known in references.items() if known is not None},
        _literal(ENCOUNTER, people.encounter_id),
        warning,
    )


class Specimen:
    """A synthetic note of its own identity.

    Args:
        name: Tells the notes of a run apart.
        run_id: The run.
        target: Name of the target.
        placed: Whom it is about.
        options: How documents are built.
    """

    def __init__(self, name: str, run_id: str, target: str, placed: Placed, options: BuildOptions) -> None:
        self._name = f"{run_id}/{name}"
        self._run_id = run_id
        self._target = target
        self._placed = placed
        self._options = options

    def version(self, number: int, capabilities: Capabilities) -> Version | Unfit:
        """A version of it, as the target takes it; or why it would not.

        Args:
            number: 1 for the first, 2 and more for amended ones, `RETRACTED` for the withdrawal.
            capabilities: What the target takes.
        """
        note = self._note(number)
        resources = build_documents(note, self._options).resources()
        if self._placed.subject is not None and capabilities.references == "logical":
            # The operator gave an id and nothing else.
            resources = {kind: _about(resource, self._placed.subject) for kind, resource in resources.items()}
        fitted = fit(resources, capabilities, self._placed.references, self._placed.encounter)
        if isinstance(fitted, Unfit):
            return fitted
        return Version(Key(self._target, str(note.note_id), note.version), fitted)

    def first(self, capabilities: Capabilities) -> Version:
        """The first version.

        Raises:
            ConfigError: The target would not take it; the code is the reason a note would be held for.
        """
        found = self.version(1, capabilities)
        if isinstance(found, Unfit):
            told = _WHAT_IS_MISSING.get(found.reason, "Notes will be held for this reason: see the capabilities")
            raise ConfigError(f"The target does not take the document. {told}", code=found.reason)
        return found

    def _note(self, number: int) -> ScribeNote:
        retracted = number == RETRACTED
        plain = synthetic_note(NoteState.RETRACTED if retracted else NoteState.VALIDATED)
        versions = {each: content_hash([self._name, each]) for each in (RETRACTED, *range(1, number + 1))}
        words = f"Synthetic document of a self-test. It is about nobody. Run {self._run_id}, version {number}."
        changed = timedelta(hours=1) if retracted else timedelta(minutes=number)
        own = Identifier(f"{_SYSTEM}/clinician", f"selftest-{self._run_id}")
        return replace(
            plain,
            note_id=stable_id(plain.provider, _ACCOUNT, self._name, "note"),
            account=_ACCOUNT,
            source_id=f"selftest-{self._name}",
            version=versions[number],
            amends=versions[number - 1] if number > 1 else None,
            title=f"SYNTHETIC TEST DOCUMENT {self._run_id}, PLEASE IGNORE",
            sections=(NoteSection(None, "Synthetic", words), *plain.sections),
            visit=replace(
                plain.visit,
                patient=self._placed.patient,
                practitioner=Practitioner((own,), (), "Dr Synthetic"),
                # Without one in the note, `fit` puts the one there that the operator named.
                encounter=None if self._placed.encounter else Identifier(f"{_SYSTEM}/encounter", own.value),
            ),
            updated_at=note_date(plain) + changed,
        )


def _subject(client: FhirClient, people: People, *, literal: bool) -> tuple[str | None, str]:
    """Literal reference of the patient, where one is wanted, and what there is to warn of."""
    if people.patient_id is not None:
        return _literal(PATIENT, people.patient_id), _why_unchecked(client, people.patient_id)
    if people.patient is None:
        return None, (
            "The document names a synthetic patient by an identifier nobody has; whether the server knows the patients "
            "of your notes is not looked at."
        )
    if not literal:
        return None, "The target is given the identifier of the patient; whether it knows it is not looked at."
    found = resource_by_identifier(client, PATIENT, *people.patient)
    if found.state is not ReferenceState.FOUND:
        raise ConfigError(
            "The server does not know exactly one patient by that identifier; check --patient",
            code=f"patient_{found.state}",
        )
    return _literal(PATIENT, found.server_id), ""


def _why_unchecked(client: FhirClient, patient_id: str) -> str:
    try:
        known = client.read(PATIENT, patient_id)
    except (CredentialsError, Refused) as error:
        if error.status == HTTPStatus.UNAUTHORIZED:
            raise
        return "We may not read patients: that the one of --patient-id is the test patient is your word alone."
    if known is None:
        raise ConfigError("The server has no patient of that id; check --patient-id", code="patient_missing")
    return ""


def _literal(kind: str, server_id: str | None) -> str | None:
    return None if server_id is None else f"{kind}/{server_id}"


def _about(resource: Resource, subject: str) -> Resource:
    """With a literal subject; a list stays a list, as a Composition of R5 has it."""
    if "subject" not in resource:
        return resource
    literal = {"reference": subject}
    return {**resource, "subject": [literal] if isinstance(resource["subject"], list) else literal}
