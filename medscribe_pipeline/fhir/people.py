"""Who: authors, attesters, the scribe itself. As references by identifier, which delivery resolves where it must."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medscribe_pipeline.fhir.elements import PRODUCTS, identifier, instant, present
from medscribe_pipeline.fhir.sections import one_line
from medscribe_pipeline.notes import NoteState

if TYPE_CHECKING:
    from medscribe_pipeline.notes import Practitioner, ScribeNote

__all__ = ["attester", "author", "practitioner", "scribe_device"]


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
    """Who signed the note off: nobody for a note that is not validated."""
    party = practitioner(note.visit.practitioner)
    if note.state is not NoteState.VALIDATED or party is None:
        return []
    return [present({"mode": "professional", "time": instant(note.validated_at), "party": party})]


def practitioner(known: Practitioner | None) -> dict[str, Any] | None:
    """A clinician as a reference; `None` when neither a person's identifier nor a name is known."""
    if known is None:
        return None
    # Only person-level identifiers: the others belong to a place of practice and may be shared.
    element = next((found for each in known.identifiers if (found := identifier(each))), None)
    display = one_line(known.display)
    if element is None and display is None:
        return None
    return present({"type": "Practitioner", "identifier": element, "display": display})
