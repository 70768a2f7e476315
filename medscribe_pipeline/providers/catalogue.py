"""The providers this version knows: how each is opened, which streams it has, how a record becomes a note.

A new provider is one file beside the others and one entry here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import sqlalchemy as sa

from medscribe_pipeline.providers import askara, audioscribe, intron, nabla, whole_lists
from medscribe_pipeline.providers.records import Held
from medscribe_pipeline.warehouse.tables import source_records

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from datetime import datetime

    from medscribe_pipeline.notes import ScribeNote
    from medscribe_pipeline.providers.http import HttpClient
    from medscribe_pipeline.providers.pull import Facts, PullReport, Window
    from medscribe_pipeline.providers.records import LandedRecord
    from medscribe_pipeline.providers.whole_lists import WholeList
    from medscribe_pipeline.providers.work import WorkProvider
    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.landing import Landing
    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["PROVIDERS", "Provider", "Pull", "Reader", "Stream"]


class Pull(Protocol):
    """Pulls one stream and lands it."""

    def __call__(
        self,
        client: HttpClient,
        landing_for: Callable[[str | None], Landing],
        settings: Settings,
        window: Window,
        *,
        warehouse: Warehouse,
        clock: Callable[[], datetime],
        on_progress: Callable[[PullReport], None],
    ) -> PullReport:
        """Returns what was done; see `pages.pull_pages` and `changes.pull_changes` for the errors."""
        ...


@dataclass(frozen=True, slots=True)
class Reader:
    """How records of a stream are read, for those that are here already and could not be read when they came.

    Attributes:
        id_field: Name of the field with the id.
        facts: What landing must know of a payload; the last argument is the record it hung on before, if any. Raises
            pydantic's `ValidationError`.
        detailed: Whether list items are only announcements, so that an item alone is no record.
    """

    id_field: str
    facts: Callable[[Any, Settings, str | None], Facts]
    detailed: bool


@dataclass(frozen=True, slots=True)
class Stream:
    """One listed stream.

    Attributes:
        name: Its name in `source_records`.
        pull: How it is pulled.
        after: Streams of the same provider that have to be pulled before.
        description: For the graph.
        whole: How everything in it is listed, to find what is gone.
        reader: How its records are read again out of the quarantine; without it only the provider can help.
    """

    name: str
    pull: Pull
    description: str
    whole: WholeList
    after: tuple[str, ...] = ()
    reader: Reader | None = None


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider.

    Attributes:
        name: Its name in every key.
        open_client: Opens the HTTP client of the account.
        to_notes: Maps a landed record to its notes, or says why there is none.
        streams: What can be listed.
        work: What works on order, for a provider that cannot be listed.
        withdraws: Whether a record takes back what hangs on it, without being gone itself (an archived audio). Asked
            where the record that hangs on it cannot be mapped again, because its payload was removed for its age.
    """

    name: str
    open_client: Callable[[Settings, Warehouse], AbstractContextManager[HttpClient]]
    to_notes: Callable[[LandedRecord, Settings], tuple[ScribeNote, ...] | Held]
    streams: tuple[Stream, ...] = ()
    work: Callable[[Settings], WorkProvider] | None = None
    withdraws: Callable[[dict[str, Any]], bool] = lambda _: False

    def stream(self, name: str) -> Stream:
        """The stream of that name."""
        return next(stream for stream in self.streams if stream.name == name)


def _pull_sessions(
    client: HttpClient,
    landing_for: Callable[[str | None], Landing],
    settings: Settings,
    window: Window,
    *,
    warehouse: Warehouse,  # noqa: ARG001  # the shape all streams share
    clock: Callable[[], datetime],
    on_progress: Callable[[PullReport], None],
) -> PullReport:
    return audioscribe.pull_sessions(client, landing_for, settings, window, clock=clock, on_progress=on_progress)


def _pull_audios(
    client: HttpClient,
    landing_for: Callable[[str | None], Landing],
    settings: Settings,
    window: Window,
    *,
    warehouse: Warehouse,  # noqa: ARG001  # the shape all streams share
    clock: Callable[[], datetime],
    on_progress: Callable[[PullReport], None],
) -> PullReport:
    return askara.pull_audios(client, landing_for, settings, window, clock=clock, on_progress=on_progress)


def _pull_notes(
    client: HttpClient,
    landing_for: Callable[[str | None], Landing],
    settings: Settings,
    window: Window,
    *,
    warehouse: Warehouse,
    clock: Callable[[], datetime],
    on_progress: Callable[[PullReport], None],
) -> PullReport:
    def changed_audios(after: int) -> list[tuple[str, int]]:
        query = (
            sa.select(source_records.c.source_id, source_records.c.change_seq)
            .where(
                source_records.c.account == warehouse.account,
                source_records.c.provider == askara.NAME,
                source_records.c.stream == askara.AUDIOS,
                source_records.c.change_seq > after,
            )
            .order_by(source_records.c.change_seq)
        )
        with warehouse.read() as connection:
            return [(source_id, seq) for source_id, seq in connection.execute(query)]

    return askara.pull_notes(
        client, landing_for, settings, window, changed_audios=changed_audios, clock=clock, on_progress=on_progress
    )


def _single(
    to_note: Callable[[LandedRecord, Settings], ScribeNote | Held],
) -> Callable[[LandedRecord, Settings], tuple[ScribeNote, ...] | Held]:
    """For providers whose records are one note each."""

    def to_notes(record: LandedRecord, settings: Settings) -> tuple[ScribeNote, ...] | Held:
        found = to_note(record, settings)
        return found if isinstance(found, Held) else (found,)

    return to_notes


PROVIDERS: dict[str, Provider] = {
    askara.NAME: Provider(
        name=askara.NAME,
        open_client=askara.open_client,
        streams=(
            Stream(
                askara.AUDIOS,
                _pull_audios,
                "Askara audios: who, when, and how far the recording has come.",
                whole_lists.ASKARA_AUDIOS,
                reader=Reader("uuid", askara.audio_facts, detailed=True),
            ),
            Stream(
                askara.NOTES,
                _pull_notes,
                "Askara notes: the text written from an audio.",
                whole_lists.ASKARA_NOTES,
                after=(askara.AUDIOS,),
                reader=Reader("uuid", askara.note_facts, detailed=True),
            ),
        ),
        to_notes=_single(askara.to_note),
        withdraws=lambda audio: audio.get("archivedAt") is not None,
    ),
    audioscribe.NAME: Provider(
        name=audioscribe.NAME,
        open_client=audioscribe.open_client,
        streams=(
            Stream(
                audioscribe.SESSIONS,
                _pull_sessions,
                "AudioScribe sessions: note text and raw transcript.",
                whole_lists.AUDIOSCRIBE_SESSIONS,
                reader=Reader("id", audioscribe.session_facts, detailed=False),
            ),
        ),
        to_notes=_single(audioscribe.to_note),
    ),
    nabla.NAME: Provider(name=nabla.NAME, open_client=nabla.open_client, to_notes=nabla.to_notes, work=nabla.Nabla),
    intron.NAME: Provider(
        name=intron.NAME, open_client=intron.open_client, to_notes=intron.to_notes, work=intron.Intron
    ),
}
