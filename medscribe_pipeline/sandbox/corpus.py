"""What the two providers hold: patients, clinicians, audios, notes and sessions, made from a seed.

Records are plain JSON objects in a neutral form (references by id, times as UTC text); `askara.py` and
`audioscribe.py` turn them into the shapes their vendors document. A record's keys that begin with `_` never leave
the sandbox: `_sort` orders, `_visit` is the truth about a session's visit, `_defect` damages the record on the wire.

Everything about item number n depends on the seed and n alone, so a corpus of five thousand begins with exactly the
same days as a small one with the same seed and the same number per day.
"""

from __future__ import annotations

import random
import uuid
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from medscribe_pipeline.sandbox.consultations import QUIRKS, consultations, quirk, write

__all__ = [
    "CorpusOptions",
    "Items",
    "Record",
    "dice",
    "generate",
    "items_of_day",
    "note_of",
    "on_the_wire",
    "people",
    "utc_text",
]

Record = dict[str, Any]

_NAMESPACE = uuid.UUID("0b8f3d52-6a53-5a1e-8f0c-53a4d0c0ffee")
_CLINIC_ZONE = ZoneInfo("Europe/Paris")
_OPENS_AT = time(7, 0, tzinfo=UTC)
_WORKING_DAY = timedelta(hours=10)
_FIRST_SESSION_ID = 4001

_FIRST_NAMES = (
    "Camille", "Aïcha", "Jean-Noël", "Siân", "Zoë", "Bjørn",
    "Łucja", "سلمى", "Noor", "D'Arcy", "Inès", "Tom & Jo",
)  # fmt: skip
_LAST_NAMES = ("Zzmark-Testpatient", "O'Zzmark-Test", "Zzmark-Éprouvette", "Zzmark <Échantillon>")
# Every step occurs in any ten audios in a row, the interesting ones more often.
_STEPS = (
    "validated", "transcribed", "validated", "edition", "validated",
    "transcription", "validated", "failed", "edition", "audio_recording",
)  # fmt: skip
_STEPS_WITH_NOTE = frozenset({"transcribed", "edition", "validated"})
_QUIRK_NAMES = tuple(QUIRKS)


@dataclass(frozen=True, slots=True)
class CorpusOptions:
    """Size and seed of a corpus.

    Attributes:
        seed: Same seed, same corpus.
        days: Days of consultations before the sandbox's "today".
        audios_per_day: Askara audios a day.
        sessions_per_day: AudioScribe sessions a day.
        end: The last of those days. The default makes the days span a change to summer time.
        malformed: Damaged records in each of the three streams (audios, notes, sessions), all on the first day.
        recordings: Recordings for each of the two providers that work on order, all of the last day.
    """

    seed: int = 7
    days: int = 10
    audios_per_day: int = 6
    sessions_per_day: int = 4
    end: date = date(2026, 3, 31)
    malformed: int = 2
    recordings: int = 8

    @property
    def patient_count(self) -> int:
        """Patients the visits are shared among."""
        return max(12, self.days * max(self.audios_per_day, self.sessions_per_day) // 3)

    def opening_of(self, day: int) -> datetime:
        """When day number `day` (from 0) begins, UTC."""
        return datetime.combine(self.end - timedelta(days=self.days - 1 - day), _OPENS_AT)


@dataclass(slots=True)
class Items:
    """Records by their key, in the order they were made."""

    patients: dict[str, Record] = field(default_factory=dict)
    users: dict[str, Record] = field(default_factory=dict)
    audios: dict[str, Record] = field(default_factory=dict)
    notes: dict[str, Record] = field(default_factory=dict)
    sessions: dict[str, Record] = field(default_factory=dict)
    recordings: dict[str, Record] = field(default_factory=dict)


def utc_text(moment: datetime) -> str:
    """The neutral form of a time: UTC, whole seconds, `+00:00`."""
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def dice(*parts: object) -> random.Random:
    """A random generator of its own for whatever `parts` name, so that no draw depends on another's."""
    return random.Random("|".join(map(str, parts)))  # noqa: S311 - repeatable test data, nothing secret


def generate(options: CorpusOptions) -> Items:
    """All records of the corpus's days."""
    items = people(options)
    for day in range(options.days):
        made = items_of_day(options, day, items, options.opening_of(day))
        items.audios.update(made.audios)
        items.notes.update(made.notes)
        items.sessions.update(made.sessions)
    _damage(options, items)
    return items


def people(options: CorpusOptions) -> Items:
    """The patients and the clinicians."""
    items = Items()
    for n in range(options.patient_count):
        patient = _patient(options.seed, n)
        items.patients[patient["uuid"]] = patient
    for n in range(3):
        user = _user(options.seed, n)
        items.users[user["uuid"]] = user
    return items


def items_of_day(options: CorpusOptions, day: int, known: Items, opening: datetime) -> Items:
    """The audios, notes and sessions of day number `day`, which may lie beyond the corpus's own days.

    Args:
        options: The corpus.
        day: From 0; together with the slot it numbers the item.
        known: Where patients and users are drawn from.
        opening: When the day begins, UTC. Every time of the day lies in the 14 hours after it.
    """
    items = Items()
    for slot in range(options.audios_per_day):
        n = day * options.audios_per_day + slot
        recorded_at = opening + slot * (_WORKING_DAY / options.audios_per_day)
        _add_audio(items, known, options.seed, n, recorded_at)
    for slot in range(options.sessions_per_day):
        n = day * options.sessions_per_day + slot
        recorded_at = opening + slot * (_WORKING_DAY / options.sessions_per_day)
        session = _session(known, options.seed, n, recorded_at)
        items.sessions[str(session["id"])] = session
    return items


def on_the_wire(record: Record, shape: Record) -> Record:
    """What a provider sends for a record: the shape, unless the record is one of the deliberately malformed."""
    defect = record.get("_defect")
    if defect is None:
        return shape
    return {name: value for name, value in {**shape, **defect["set"]}.items() if name not in defect["drop"]}


def note_of(audio: Record, known: Items, seed: int, n: int, ordinal: int, written_at: datetime) -> Record:
    """A note for an audio; `ordinal` 1 is the letter that goes with a consultation summary."""
    rng = dice(seed, "note", n, ordinal)
    consultation = rng.choice(consultations())
    text = write(consultation, _name_of(known, audio["patient"]), f"{n:04d}", rng).note
    if _falls(n, every=5, on=3):
        text = quirk(_QUIRK_NAMES[n // 5 % len(_QUIRK_NAMES)], text)
    return {
        "uuid": _id(seed, "note", n, ordinal),
        "type": consultation.type if ordinal == 0 else "patient_letter",
        "content": text,
        "createdAt": utc_text(written_at),
        "updatedAt": utc_text(written_at),
        "audio": audio["uuid"],
        "patient": audio["patient"],
        "user": audio["user"],
    }


def _falls(n: int, *, every: int, on: int) -> bool:
    """Whether item n is the one in `every` that gets some peculiarity."""
    return n % every == on


def _id(seed: int, kind: str, *numbers: int) -> str:
    return str(uuid.uuid5(_NAMESPACE, "/".join(map(str, (seed, kind, *numbers)))))


def _name_of(known: Items, patient: str | None) -> str:
    if patient is None:
        return "Zzmark-Anonymous"
    return f"{known.patients[patient]['firstName']} {known.patients[patient]['lastName']}"


def _patient(seed: int, n: int) -> Record:
    rng = dice(seed, "patient", n)
    born = date(1928, 1, 1) + timedelta(days=rng.randrange(35_000))
    # Askara prints a date of birth as a date-time: midnight UTC in some records, midnight in Paris in others.
    midnight = datetime.combine(born, time(tzinfo=UTC if n % 3 else _CLINIC_ZONE)).astimezone(UTC)
    joined = utc_text(datetime(2025, 1, 6, 8, tzinfo=UTC) + timedelta(minutes=n))
    return {
        "uuid": _id(seed, "patient", n),
        "firstName": _FIRST_NAMES[n % len(_FIRST_NAMES)],
        "lastName": f"{_LAST_NAMES[n % len(_LAST_NAMES)]}-{n:04d}",
        "languageSpoken": rng.choice(("fr", "en", None)),
        "createdAt": joined,
        "updatedAt": joined,
        "synchronizedAt": None,
        "dateOfBirth": utc_text(midnight),
        "gender": rng.choice(("female", "male", "unknown", None)),
        "visibilityOption": "shared",
        "email": f"patient{n}@zzmark.example",
        "phone": None,
        "anonymousCode": f"ZZMARK-{n:04d}",
    }


def _user(seed: int, n: int) -> Record:
    joined = utc_text(datetime(2024, 9, 2, 8, tzinfo=UTC) + timedelta(minutes=n))
    return {
        "uuid": _id(seed, "user", n),
        "email": f"clinician{n}@zzmark.example",
        "createdAt": joined,
        "updatedAt": joined,
        "firstName": ("Élodie", "Ruairí", "Test")[n % 3],
        "lastName": f"Zzmark-Clinician-{n}",
        "gender": ("female", "male", "unknown")[n % 3],
        "phone": None,
        "rpps": _with_luhn_key(f"99999{n:05d}"),
        "am": f"999{n:06d}",
    }


def _with_luhn_key(digits: str) -> str:
    """Appends the check digit that makes a number of practice pass its checksum (RPPS, ISO/IEC 7812)."""
    doubled = [int(digit) * (2 if place % 2 == 0 else 1) for place, digit in enumerate(reversed(digits))]
    return digits + str(-sum(value // 10 + value % 10 for value in doubled) % 10)


def _add_audio(items: Items, known: Items, seed: int, n: int, recorded_at: datetime) -> None:
    rng = dice(seed, "audio", n)
    recorded_at += timedelta(seconds=rng.randrange(60))
    changed_at = recorded_at + timedelta(seconds=rng.randrange(120, 5400))
    end_of_day = recorded_at.replace(hour=20, minute=0, second=0)
    if end_of_day > changed_at and (_falls(n, every=5, on=1) or _falls(n, every=5, on=2)):
        # Signed off together in the evening: several records share one `updatedAt`, and only the uuid orders them.
        changed_at = end_of_day
    archived_at = changed_at + timedelta(minutes=20) if _falls(n, every=12, on=4) else None
    step = _STEPS[n % len(_STEPS)]
    audio: Record = {
        "uuid": _id(seed, "audio", n),
        "patient": None if _falls(n, every=9, on=6) else rng.choice(list(known.patients)),
        "user": None if _falls(n, every=23, on=11) else rng.choice(list(known.users)),
        "createdAt": utc_text(recorded_at),
        "updatedAt": utc_text(archived_at or changed_at),
        "archivedAt": archived_at and utc_text(archived_at),
        "step": step,
        "documents": [_id(seed, "document", n)] if step == "validated" and _falls(n, every=4, on=0) else [],
        "meeting": _id(seed, "meeting", n) if _falls(n, every=6, on=2) else None,
        "languageSpoken": rng.choice(("fr", "fr", "en", None)),
        "mediaRecorderType": rng.choice(("web", "mobile", None)),
        "_number": n,
    }
    items.audios[audio["uuid"]] = audio
    if step in _STEPS_WITH_NOTE and not _falls(n, every=13, on=8):
        for ordinal in range(2 if _falls(n, every=8, on=2) else 1):
            note = note_of(audio, known, seed, n, ordinal, changed_at + timedelta(seconds=ordinal))
            items.notes[note["uuid"]] = note


def _session(known: Items, seed: int, n: int, recorded_at: datetime) -> Record:
    rng = dice(seed, "session", n)
    recorded_at += timedelta(seconds=rng.randrange(60), microseconds=rng.randrange(1_000_000))
    patient = rng.choice(list(known.patients))
    consultation = rng.choice(consultations())
    text = write(consultation, _name_of(known, patient), f"s{n:04d}", rng)
    note = quirk(_QUIRK_NAMES[n // 5 % len(_QUIRK_NAMES)], text.note) if _falls(n, every=5, on=4) else text.note
    # The vendor does not say in which zone its times are: some name one, some are the clinic's wall clock.
    written = (
        recorded_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        recorded_at.astimezone(_CLINIC_ZONE).isoformat(timespec="seconds"),
        recorded_at.astimezone(_CLINIC_ZONE).strftime("%Y-%m-%dT%H:%M:%S"),
    )[n % 3]
    visit = {
        "patient_id": patient,
        "practitioner_id": rng.choice(list(known.users)),
        "encounter_id": f"enc-{seed}-{n}",
        "started_at": utc_text(recorded_at - timedelta(minutes=rng.randrange(8, 25))),
        "ended_at": utc_text(recorded_at),
        "language": consultation.language,
    }
    return {
        "id": _FIRST_SESSION_ID + n,
        "title": text.title,
        "note": note,
        "originalTranscript": "" if _falls(n, every=11, on=9) else text.transcript,
        "tags": "",
        "createdAt": written,
        "_sort": recorded_at.isoformat(timespec="microseconds"),
        # Some visits are in nobody's manifest: whom those notes are about stays unknown.
        "_visit": None if _falls(n, every=7, on=5) else visit,
    }


def _damage(options: CorpusOptions, items: Items) -> None:
    """Marks the first records of each stream as damaged on the wire: wrong types and a missing id in turn."""
    kinds: dict[str, tuple[Record, Record]] = {
        "audios": (
            {"set": {"updatedAt": 20260331, "user": "qxcanary"}, "drop": []},
            {"set": {}, "drop": ["uuid"]},
        ),
        "notes": ({"set": {"content": {"qxcanary": ["not", "text"]}}, "drop": []}, {"set": {}, "drop": ["uuid"]}),
        "sessions": ({"set": {"id": "qxcanary-id", "note": 12}, "drop": []}, {"set": {}, "drop": ["id"]}),
    }
    for stream, damages in kinds.items():
        records = list(getattr(items, stream).values())
        # From the second on: the very first record of a stream stays whole, as tests and people look at it first.
        for n, record in enumerate(records[1 : 1 + options.malformed]):
            record["_defect"] = damages[n % 2]
