"""The providers' data as it changes: edits, sign-offs, archivals, additions and deletions, on request.

The world has its own clock, which only goes forward: it starts at the end of the corpus's last day, and every change
happens a minute after the one before. With a `State`, a world that is opened again goes on where it was.
"""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timedelta
from threading import RLock
from typing import TYPE_CHECKING, Any

from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.sandbox.corpus import CorpusOptions, Items, Record, generate, note_of, utc_text
from medscribe_pipeline.sandbox.recordings import digest_of, recordings, visit_of, write_sound
from medscribe_pipeline.sandbox.state import State

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from medscribe_pipeline.sandbox.state import Change

__all__ = ["DAY_LENGTH", "World"]

DAY_LENGTH = timedelta(hours=14)
"""From a day's opening to the moment after which nothing happens on it."""

_COLLECTIONS = ("patients", "users", "audios", "notes", "sessions", "recordings")
_CHANGE_TAKES = timedelta(minutes=1)


class World:
    """Everything the providers hold, and what happens to it.

    Methods may be called from any thread. An unknown key raises `KeyError`.

    Args:
        options: What to generate when the state is empty.
        state: Where to remember; by default nowhere.
        audio_folder: Where `visits` puts sound files for Intron; by default its recordings are named by URL only.

    Attributes:
        generation: How many days have passed since the corpus was made.
        now: The world's clock, aware UTC: when the latest change happened.

    Raises:
        ConfigError: The state was made with other options.
    """

    def __init__(
        self, options: CorpusOptions | None = None, state: State | None = None, audio_folder: Path | None = None
    ) -> None:
        self.options = options or CorpusOptions()
        self._audio_folder = audio_folder
        self._digests: dict[str, str] = {}
        self.lock = RLock()
        self._state = state or State()
        self._versions = dict.fromkeys(_COLLECTIONS, 0)
        self._pending: dict[tuple[str, str], None] = {}
        self._batches = 0
        wanted = {name: str(value) for name, value in asdict(self.options).items()}
        meta = dict(self._state.load("world"))
        if meta and meta["options"] != wanted:
            raise ConfigError(
                "The sandbox state was made with other options; remove the file or use the same ones.",
                code="sandbox_state",
            )
        if meta:
            self.items = Items(**{name: dict(self._state.load(name)) for name in _COLLECTIONS})
            self.generation = int(meta["generation"])
            self.now = datetime.fromisoformat(meta["now"])
        else:
            self.items = generate(self.options)
            self.generation = 0
            last_day = self.options.opening_of(self.options.days - 1)
            numbers = range(self.options.recordings)
            self.items.recordings = recordings(self.options.seed, numbers, self.items, last_day)
            self.now = last_day + DAY_LENGTH
            everything = [(name, key, record) for name in _COLLECTIONS for key, record in self.records(name).items()]
            self._state.save([*everything, ("world", "options", wanted), *self._meta()])

    def records(self, name: str) -> dict[str, Record]:
        """A collection by name (`audios`, `recordings`, ...); change what is in it by methods only."""
        records: dict[str, Record] = getattr(self.items, name)
        return records

    def version(self, name: str) -> int:
        """A number that grows whenever the collection changes; what is derived from it can be kept until then."""
        return self._versions[name]

    def visits(self) -> list[Record]:
        """The truth about visits, one row each, as a clinic's own system would know it.

        AudioScribe's sessions come first, then the recordings that Nabla and Intron are to work on, with what is asked
        for and where the recording is: `audio_url`, or `audio_path` of a sound file, which is written if it is missing.

        Keys: `provider`, `correlation_key` (the session id, or a name for the recording), `patient_id` and
        `practitioner_id` (uuids of the patients and users here), `encounter_id`, `started_at`, `ended_at`, `language`;
        and of recordings further columns of the manifest. Sessions nobody knows have no row.
        """
        with self.lock:
            sessions = [
                {"provider": "audioscribe", "correlation_key": key, **session["_visit"]}
                for key, session in self.items.sessions.items()
                if session["_visit"] is not None and "_defect" not in session
            ]
            made = list(self.items.recordings.values())
        if self._audio_folder is not None:
            for recording in made:
                if recording["provider"] == "intron":
                    write_sound(recording, self._audio_folder)
        return [*sessions, *(visit_of(recording, self._audio_folder) for recording in made)]

    def recording_of(self, digest: str) -> Record | None:
        """The recording whose sound file has this SHA-256."""
        with self.lock:
            if len(self._digests) != len(self.items.recordings):
                self._digests = {digest_of(recording): key for key, recording in self.items.recordings.items()}
            return self.items.recordings.get(self._digests.get(digest, ""))

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Everything changed inside is remembered in one transaction, at the end."""
        with self.lock:
            self._batches += 1
            try:
                yield
            finally:
                self._batches -= 1
                if self._batches == 0:
                    pending, self._pending = self._pending, {}
                    changes: list[Change] = [(name, key, self.records(name).get(key)) for name, key in pending]
                    self._state.save([*changes, *self._meta()])

    def put(self, name: str, key: str, record: Record) -> None:
        """Adds or replaces a record as it is."""
        with self.batch():
            self.records(name)[key] = record
            self._changed(name, key)

    def delete(self, name: str, key: str) -> None:
        """Removes a record for good, without a trace."""
        with self.batch():
            del self.records(name)[key]
            self._changed(name, key)

    def edit_note(self, key: str, content: str | None = None) -> None:
        """Rewrites an Askara note (by default with an addendum); its audio counts as updated, too."""
        with self.batch():
            note, at = self.items.notes[key], self._tick()
            self.put("notes", key, {**note, "content": self._edited(note["content"], content), "updatedAt": at})
            self._update_audio(note["audio"], at)

    def edit_session(self, key: str, note: str | None = None) -> None:
        """Rewrites an AudioScribe note. Nothing else about the session says so: the vendor has no update time."""
        with self.batch():
            session = self.items.sessions[key]
            self._tick()
            self.put("sessions", key, {**session, "note": self._edited(session["note"], note)})

    def add_session(self, **fields: Any) -> str:
        """Adds a session like the newest one but with its own id and time, and the given fields; returns its key."""
        with self.batch():
            newest = max(self.items.sessions.values(), key=lambda session: int(session["id"]))
            at = self._tick()
            session = {**newest, "id": newest["id"] + 1, "createdAt": at, "_sort": at, "_visit": None, **fields}
            self.put("sessions", str(session["id"]), session)
            return str(session["id"])

    def set_step(self, key: str, step: str) -> None:
        """Moves an audio to another workflow step; its notes stay as they are, update time included.

        An audio that is validated has a document from then on.
        """
        documents = self.items.audios[key]["documents"]
        if step == "validated" and not documents:
            documents = [str(uuid.uuid5(uuid.UUID(key), "document"))]
        self._update_audio(key, self._tick(), step=step, documents=documents)

    def transcribe(self, key: str) -> str:
        """Finishes the transcription of an audio: step `transcribed`, and a new note, whose key is returned."""
        with self.batch():
            self.set_step(key, "transcribed")
            audio = self.items.audios[key]
            note = note_of(audio, self.items, self.options.seed, audio["_number"], 0, self.now)
            self.put("notes", note["uuid"], note)
            return str(note["uuid"])

    def archive(self, key: str) -> None:
        """Archives an audio; its notes stay listed."""
        at = self._tick()
        self._update_audio(key, at, archivedAt=at)

    def restore(self, key: str) -> None:
        """Takes an archival back."""
        self._update_audio(key, self._tick(), archivedAt=None)

    def touch(self, key: str) -> None:
        """Marks an audio as updated without changing it, which moves it to the end of a list by `updatedAt`."""
        self._update_audio(key, self._tick())

    def pass_time(self, until: datetime) -> None:
        """Moves the clock forward."""
        with self.batch():
            self.now = max(self.now, until)

    def _update_audio(self, key: str, at: str, **fields: Any) -> None:
        self.put("audios", key, {**self.items.audios[key], "updatedAt": at, **fields})

    def _edited(self, old: str, new: str | None) -> str:
        return f"{old}\n\nAddendum:\nRevised text, qxcanary, {utc_text(self.now)}." if new is None else new

    def _tick(self) -> str:
        with self.lock:
            self.now += _CHANGE_TAKES
            return utc_text(self.now)

    def _changed(self, name: str, key: str) -> None:
        self._versions[name] += 1
        self._pending[name, key] = None

    def _meta(self) -> list[Change]:
        return [("world", "generation", self.generation), ("world", "now", utc_text(self.now))]
