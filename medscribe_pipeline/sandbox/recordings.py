"""The recordings a clinic has transcribed on order: rows for its visits manifest, and small sound files.

A recording's name says what becomes of its jobs (see `fates.py`), so a manifest of them is a script. Sound files are
valid WAV, a second of a tone that is different in each, so that the sandbox knows a recording by its content when a
client uploads it under a name of its own.
"""

from __future__ import annotations

import hashlib
import io
import math
import wave
from datetime import timedelta
from typing import TYPE_CHECKING

from medscribe_pipeline.sandbox.corpus import dice, utc_text

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from medscribe_pipeline.sandbox.corpus import Items, Record

__all__ = ["AUDIO_HOST", "SCRIPTS", "digest_of", "recordings", "sound", "visit_of", "write_sound"]

AUDIO_HOST = "audio.example.invalid"
"""Where the recordings seem to be. Nothing fetches them: the name is reserved never to lead anywhere (RFC 2606)."""

SCRIPTS = {
    "nabla": ("", "slow", "failed", "note-failed", "twice", "late", "forged", "silent"),
    "intron": ("", "slow", "failed", "overlong", "", "slow", "", ""),
}
"""What becomes of the recordings in turn, by provider. All come to an end, so that a demo does, too."""

_NABLA_TEMPLATES = (
    "GENERAL_MEDICINE", "SOAP", "CARDIOLOGY", "PSYCHIATRY", "GENERAL_MEDICINE_AP_MERGED", "DIET", "PSYCHOLOGY",
    "SOAP_EMERGENCY",
)  # fmt: skip
_ENGLISH_ONLY = frozenset({"GENERAL_MEDICINE_AP_MERGED"})
_CATEGORIES = (
    "telehealth",
    "procedure",
    "telehealth",
    "general",
    "telehealth",
    "call_center",
    "procedure",
    "telehealth",
)
_LANGUAGES = {"nabla": ("en-US", "fr-FR", "en-GB"), "intron": ("en", "sw", "en", "fr")}
_RATE_HZ = 8000


def recordings(seed: int, numbers: range, known: Items, day: datetime) -> dict[str, Record]:
    """The recordings of both providers with the given numbers, by correlation key.

    Args:
        seed: Of the corpus.
        numbers: Which ones.
        known: Where patients and clinicians are drawn from.
        day: When the first was made, UTC; the others follow by the half hour.
    """
    made = (
        _recording(provider, seed, n, known, day + timedelta(minutes=30 * place))
        for place, n in enumerate(numbers)
        for provider in SCRIPTS
    )
    return {recording["key"]: recording for recording in made}


def visit_of(recording: Record, audio_folder: Path | None) -> Record:
    """A recording's row in the manifest.

    Args:
        recording: One of `recordings`.
        audio_folder: Where sound files lie; without one Intron's recordings are named by URL, as Nabla's always are.
    """
    row = {"provider": recording["provider"], "correlation_key": recording["key"], **recording["visit"]}
    if recording["provider"] == "intron" and audio_folder is not None:
        return {**row, "audio_path": str((audio_folder / recording["file"]).absolute())}
    return {**row, "audio_url": f"https://{AUDIO_HOST}/{recording['file']}"}


def sound(recording: Record) -> bytes:
    """A recording as WAV: a second of a tone, 8 kHz, mono, 8 bits."""
    pitch_hz = 200 + int.from_bytes(hashlib.sha256(recording["file"].encode()).digest()[:4]) % 60_000 / 100
    samples = bytes(round(128 + 60 * math.sin(2 * math.pi * pitch_hz * place / _RATE_HZ)) for place in range(_RATE_HZ))
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(1)
        writer.setframerate(_RATE_HZ)
        writer.writeframes(samples)
    return file.getvalue()


def digest_of(recording: Record) -> str:
    """SHA-256 of its sound file."""
    return hashlib.sha256(sound(recording)).hexdigest()


def write_sound(recording: Record, folder: Path) -> None:
    """Writes a recording's sound file unless it is there."""
    path = folder / recording["file"]
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(sound(recording))


def _recording(provider: str, seed: int, n: int, known: Items, began_at: datetime) -> Record:
    rng = dice(seed, "recording", provider, n)
    scripts, languages = SCRIPTS[provider], _LANGUAGES[provider]
    script = scripts[n % len(scripts)]
    key = f"{provider}-{seed}-{n:04d}"
    template = _NABLA_TEMPLATES[n % len(_NABLA_TEMPLATES)]
    visit = {
        "patient_id": rng.choice(list(known.patients)),
        "practitioner_id": rng.choice(list(known.users)),
        "encounter_id": f"enc-{key}",
        "started_at": utc_text(began_at),
        "ended_at": utc_text(began_at + timedelta(minutes=rng.randrange(6, 25))),
        "language": "en-US" if template in _ENGLISH_ONLY else languages[n % len(languages)],
    }
    if provider == "nabla":
        visit |= {
            "template": template,
            "section_style": ("auto", "bullet_points", "paragraphs")[n % 3],
            "split_by_problem": str(n % 2 == 0).lower(),
        }
    else:
        visit |= {"category": _CATEGORIES[n % len(_CATEGORIES)], "diarization": str(n % 2 == 0).lower()}
    return {
        "key": key,
        "provider": provider,
        "file": f"visit-{key}{script and '-'}{script}.wav",
        "visit": visit,
    }
