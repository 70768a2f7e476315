"""What happens in a day: the next generation of the world."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from medscribe_pipeline.sandbox.corpus import dice, items_of_day
from medscribe_pipeline.sandbox.recordings import recordings
from medscribe_pipeline.sandbox.world import DAY_LENGTH

if TYPE_CHECKING:
    from collections.abc import Callable

    from medscribe_pipeline.sandbox.world import World

__all__ = ["advance"]


def advance(world: World) -> dict[str, int]:
    """Lets one day pass: new visits and recordings, edits, finished transcriptions, sign-offs and archivals.

    What happens depends on the seed, the generation and what is there, and on nothing else. It is remembered as a
    whole or not at all.

    Returns:
        The number of the new generation, and how many of each thing happened.
    """
    with world.batch():
        world.generation += 1
        day = world.options.days - 1 + world.generation
        rng = dice(world.options.seed, "generation", world.generation)
        few = max(2, len(world.items.audios) // 50)

        def to_some(candidates: list[str], what: Callable[[str], Any]) -> int:
            chosen = rng.sample(candidates, min(few, len(candidates)))
            for key in chosen:
                what(key)
            return len(chosen)

        def audios_in(*steps: str) -> list[str]:
            return [
                key
                for key, audio in world.items.audios.items()
                if audio["step"] in steps and audio["archivedAt"] is None and "_defect" not in audio
            ]

        # First what happens to the old, then the new: nobody edits a note of this very day.
        notes = [
            key
            for key, note in world.items.notes.items()
            if note["audio"] in world.items.audios and "_defect" not in note
        ]
        sessions = [key for key, session in world.items.sessions.items() if "_defect" not in session]
        report = {
            "generation": world.generation,
            "edited_notes": to_some(notes, world.edit_note),
            "edited_sessions": to_some(sessions, world.edit_session),
            "validated": to_some(audios_in("transcribed", "edition"), lambda key: world.set_step(key, "validated")),
            "transcribed": to_some(audios_in("transcription", "audio_recording"), world.transcribe),
            "archived": to_some(audios_in("validated"), world.archive),
        }
        opening = max(world.options.opening_of(day), world.now + timedelta(minutes=1))
        made = items_of_day(world.options, day, world.items, opening)
        for name in ("audios", "notes", "sessions"):
            new = getattr(made, name)
            for key, record in new.items():
                world.put(name, key, record)
            report[f"new_{name}"] = len(new)
        number = world.options.recordings - 1 + world.generation
        recorded = recordings(world.options.seed, range(number, number + 1), world.items, opening)
        for key, record in recorded.items():
            world.put("recordings", key, record)
        report["new_recordings"] = len(recorded)
        world.pass_time(opening + DAY_LENGTH)
        return report
