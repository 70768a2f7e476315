"""Who: authors, attesters, the scribe itself. As references by identifier, which delivery resolves where it must.

A clinician has identifiers of two kinds, and neither is ever made from the other. Those of the person come with the
person: the French RPPS number, life-long and in every EHR of the country, then the provider's own user id, which
only those know who use the provider. Those of a place of practice (the French AM number, one a place) say where
somebody worked; they stand on a PractitionerRole and are never used to find a person.

Facts: FR Core Practitioner, slice `rpps` (https://hl7.fr/ig/fhir/core); it also forbids to build or to interpret the
national identifier `idNatPs`, so that one is never derived here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medscribe_pipeline.fhir.elements import PRODUCTS, identifier, instant, present
from medscribe_pipeline.fhir.sections import one_line
from medscribe_pipeline.notes import NoteState
from medscribe_pipeline.providers.wire import RPPS_SYSTEM, is_rpps

if TYPE_CHECKING:
    from medscribe_pipeline.fhir.options import BuildOptions
    from medscribe_pipeline.notes import Identifier, Practitioner, ScribeNote

__all__ = [
    "attester",
    "author",
    "custodian",
    "practitioner",
    "practitioner_identifiers",
    "role_identifiers",
    "scribe_device",
]

FR_IDENTIFIER_TYPES = "https://hl7.fr/ig/fhir/core/CodeSystem/fr-core-cs-v2-0203"
# Nobody has published a system for AM numbers, so they have one of this project, and a type in words.
_AM_SYSTEM_END = "/sid/fr-numero-am"


def scribe_device(provider: str, base_uri: str) -> dict[str, Any]:
    """The AI scribe that drafted a note, as a reference."""
    return {
        "type": "Device",
        "identifier": {"system": f"{base_uri.rstrip('/')}/sid/device", "value": provider},
        "display": PRODUCTS.get(provider, provider),
    }


def author(note: ScribeNote, base_uri: str) -> dict[str, Any]:
    """The clinician whose note it is; the scribe itself only where nobody is known."""
    return practitioner(note.visit.practitioner) or scribe_device(note.provider, base_uri)


def attester(note: ScribeNote) -> list[dict[str, Any]]:
    """Who signed the note off: nobody, unless its provider says that somebody has.

    A note that is validated because a setting counts it as reviewed is final, by the word of who runs this pipeline;
    whose signature that would be, and when it was given, nobody knows, so none is stated.
    """
    party = practitioner(note.visit.practitioner)
    said = note.attested or note.validated_at is not None
    if note.state is not NoteState.VALIDATED or not said or party is None:
        return []
    return [present({"mode": "professional", "time": instant(note.validated_at), "party": party})]


def custodian(options: BuildOptions) -> dict[str, Any] | None:
    """The organisation that keeps the documents, as a reference; `None` where the settings name none."""
    element, name = identifier(options.custodian), one_line(options.custodian_name)
    if element is None and name is None:
        return None
    return present({"type": "Organization", "identifier": element, "display": name})


def practitioner(known: Practitioner | None) -> dict[str, Any] | None:
    """A clinician as a reference; `None` when neither a person's identifier nor a name is known."""
    if known is None:
        return None
    element = next(iter(practitioner_identifiers(known)), None)
    display = one_line(known.display)
    if element is None and display is None:
        return None
    return present({"type": "Practitioner", "identifier": element, "display": display})


def practitioner_identifiers(known: Practitioner) -> list[dict[str, Any]]:
    """Identifiers of the person, those first that a stranger to the provider can find the person by."""
    ranked = sorted(known.identifiers, key=lambda each: not _is_rpps(each))
    return [element for each in ranked if (element := _typed(each))]


def role_identifiers(known: Practitioner) -> list[dict[str, Any]]:
    """Identifiers of the place of practice, for a PractitionerRole and nothing else."""
    return [element for each in known.role_identifiers if (element := _typed(each))]


def _typed(known: Identifier) -> dict[str, Any] | None:
    """The identifier with what kind it is, where that is certain."""
    element: dict[str, Any] | None = identifier(known)
    if element is None:
        return None
    if _is_rpps(known):
        return {"type": {"coding": [{"system": FR_IDENTIFIER_TYPES, "code": "RPPS"}]}, **element}
    if known.system.endswith(_AM_SYSTEM_END):
        return {"type": {"text": "Numéro AM"}, **element}
    return element


def _is_rpps(known: Identifier) -> bool:
    # A number that fails its key is somebody's typing error: carried as it came, but nobody is looked up by it first.
    return known.system == RPPS_SYSTEM and is_rpps(known.value)
