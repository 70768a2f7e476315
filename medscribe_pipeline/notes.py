"""The one note shape that crosses rooms: `ScribeNote` and what it is made of.

Providers produce it (`providers/<name>.to_note`), the warehouse stores it, `fhir` turns it into documents.
Plain frozen dataclasses: they are built by our own code from checked wire models, so they check nothing.
Section keys are open: a key nobody has seen before is carried as it came.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

import orjson

if TYPE_CHECKING:
    from datetime import datetime

__all__ = [
    "NAMESPACE",
    "Identifier",
    "NoteSection",
    "NoteState",
    "Practitioner",
    "ScribeNote",
    "TextFormat",
    "TranscriptTurn",
    "Visit",
    "canonical_json",
    "content_hash",
    "stable_id",
    "uuid5_text",
]

NAMESPACE = uuid.UUID("5f9b0c36-5f0e-5c8b-9b0e-6d5a2f1c7e44")
"""Namespace of every identifier this project derives. Changing it would file every note again: never do."""


TextFormat = Literal["text", "markdown"]
"""How the text of a section reads."""


class NoteState(StrEnum):
    """How far a note has come at its provider.

    `DRAFT`: machine text nobody has signed off. `VALIDATED`: a clinician has. `RETRACTED`: archived or
    withdrawn at the source. `FAILED`: the provider gave up; there is no usable text.
    """

    DRAFT = "draft"
    VALIDATED = "validated"
    RETRACTED = "retracted"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Identifier:
    """A business identifier: `value` is unique within `system` (an absolute URI)."""

    system: str
    value: str


@dataclass(frozen=True, slots=True)
class Practitioner:
    """The clinician a recording belongs to, as far as the provider or the visits manifest says.

    `identifiers` are person-level (provider user id, RPPS). `role_identifiers` belong to one place of
    practice (the French AM number) and are never used to match a person.
    """

    identifiers: tuple[Identifier, ...] = ()
    role_identifiers: tuple[Identifier, ...] = ()
    display: str | None = None


@dataclass(frozen=True, slots=True)
class Visit:
    """Who, where and when a recording belongs to. All times are aware UTC; everything may be unknown."""

    patient: Identifier | None = None
    practitioner: Practitioner | None = None
    encounter: Identifier | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class NoteSection:
    """One section of a note, in the order the provider gave it.

    `key` is the provider-neutral section key (`CHIEF_COMPLAINT`, `SOAP_PLAN`, ...), or whatever the provider
    sent when the key is unknown, or `None` when the text came under no recognisable heading.
    `text` may be empty; `format` says how it reads: as it stands, or as Markdown. `sections` nests (Nabla's
    split-by-problem).
    """

    key: str | None
    title: str | None
    text: str
    sections: tuple[NoteSection, ...] = ()
    format: TextFormat = "text"


@dataclass(frozen=True, slots=True)
class TranscriptTurn:
    """One utterance. Offsets are milliseconds from the start of the recording."""

    text: str
    speaker: str | None = None
    start_offset_ms: int | None = None
    end_offset_ms: int | None = None


@dataclass(frozen=True, slots=True)
class ScribeNote:
    """A note as its provider holds it now, in our words.

    Attributes:
        note_id: UUID of the note through all its versions, see `stable_id`.
        provider: `askara`, `audioscribe`, `nabla`, `intron`.
        account: The account the credentials belong to (`MEDSCRIBE_ACCOUNT`).
        stream: The stream of `source_records` the note was read from.
        source_id: The provider's own id of the record.
        kind: Which artefact of the record this is: `note`, `summary`, ...
        state: See `NoteState`.
        language: BCP 47 tag, or `None` when unknown.
        template: The provider's template key, or `None`.
        specialty: Medical specialty as the visits manifest says it, a key of the FHIR mapping (`CARDIOLOGY`, ...).
        created_at: When the provider created the text. Aware UTC.
        updated_at: When the provider last changed it. Aware UTC.
        validated_at: When a clinician signed it off, where the provider says.
        attested: Whether the provider itself says that a clinician signed it off. A note that is validated because a
            setting counts it as reviewed is not attested: nobody says who looked at it.
        version: Hash of the source content. Two notes with the same version say the same thing.
        amends: The validated version whose text this one changed after its validation, as the warehouse knows it;
            providers leave it out.
    """

    note_id: uuid.UUID
    provider: str
    account: str
    stream: str
    source_id: str
    state: NoteState
    version: str
    kind: str = "note"
    title: str | None = None
    language: str | None = None
    template: str | None = None
    specialty: str | None = None
    sections: tuple[NoteSection, ...] = ()
    transcript: tuple[TranscriptTurn, ...] = ()
    visit: Visit = field(default_factory=Visit)
    created_at: datetime | None = None
    updated_at: datetime | None = None
    validated_at: datetime | None = None
    attested: bool = False
    amends: str | None = None

    @property
    def has_text(self) -> bool:
        """Whether any section holds a word."""
        return any(map(_has_text, self.sections))


def _has_text(section: NoteSection) -> bool:
    return bool(section.text.strip()) or any(map(_has_text, section.sections))


def stable_id(provider: str, account: str, source_id: str, kind: str) -> uuid.UUID:
    """Derives the identifier of an artefact from where it comes from, never from who it is about.

    >>> str(stable_id("askara", "default", "n-1", "note"))
    '1ee29d60-7023-5d7f-9569-9f5401b52b10'
    """
    # Length-prefixed, so that no choice of account or source id can collide with another.
    parts = (provider, account, source_id, kind)
    return uuid.uuid5(NAMESPACE, "|".join(f"{len(part)}:{part}" for part in parts))


def uuid5_text(namespace: bytes, name: str) -> str:
    """What `uuid.uuid5` makes of a name, as text and without the objects it makes on the way: for many at a time.

    >>> uuid5_text(NAMESPACE.bytes, "é") == str(uuid.uuid5(NAMESPACE, "é"))
    True
    """
    digest = hashlib.sha1(namespace + name.encode(), usedforsecurity=False).hexdigest()
    variant = "89ab"[int(digest[16], 16) & 0b11]
    return f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-{variant}{digest[17:20]}-{digest[20:32]}"


def content_hash(content: Any) -> str:
    """SHA-256 (hex) of the canonical JSON of `content`: keys sorted, no white space, UTF-8.

    The same content in another key order has the same hash:

    >>> content_hash({"a": 1, "b": [2, None]}) == content_hash({"b": [2, None], "a": 1})
    True
    """
    return hashlib.sha256(canonical_json(content)).hexdigest()


def canonical_json(content: Any) -> bytes:
    """JSON with sorted keys, no white space, UTF-8.

    orjson refuses a few things a provider may legally send (integers beyond 64 bits, deep nesting); those take the
    slow way, so that one odd record is stored like any other.
    """
    try:
        return orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:
        pass
    try:
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_plain)
        return text.encode("utf-8", "replace")
    except RecursionError:
        return _deep_json(content)


def _plain(value: Any) -> Any:
    """What only orjson knows (dataclasses, times, ids) as JSON values, written as it writes them."""
    return orjson.loads(orjson.dumps(value))


def _deep_json(content: Any) -> bytes:
    """The same for what is nested deeper than Python calls functions: from the innermost values outwards."""
    containers: list[Any] = []
    waiting = [content]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict | list):
            containers.append(found)
            waiting.extend(found.values() if isinstance(found, dict) else found)
    written: dict[int, orjson.Fragment] = {}

    def part(value: Any) -> Any:
        return written[id(value)] if isinstance(value, dict | list) else value

    for each in reversed(containers):
        shallow: Any = {key: part(v) for key, v in each.items()} if isinstance(each, dict) else [part(v) for v in each]
        written[id(each)] = orjson.Fragment(orjson.dumps(shallow, option=orjson.OPT_SORT_KEYS))
    return orjson.dumps(written[id(content)])
