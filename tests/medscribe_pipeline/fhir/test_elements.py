"""Times and identifiers as resources hold them, for whatever a note brings."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medscribe_pipeline.fhir.elements import instant, version_id, version_identifier

ZONES = st.integers(-839, 839).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=ZONES | st.just(UTC)))  # noqa: DTZ001  # bounds
@settings(max_examples=100, deadline=None)
def test_a_time_is_written_in_utc_to_the_second(at: datetime) -> None:
    written = instant(at)

    assert written is not None
    assert len(written) == len("0001-01-02T00:00:00Z")
    assert written[10::9] == "TZ"
    assert datetime.fromisoformat(written) == at.astimezone(UTC).replace(microsecond=0)


def test_a_time_without_zone_is_refused() -> None:
    assert instant(None) is None
    with pytest.raises(ValueError, match="naive"):
        instant(datetime(2025, 3, 4))  # noqa: DTZ001  # what is refused


@given(st.uuids(), st.text(st.characters(exclude_categories=["Cs"])))
@settings(max_examples=100, deadline=None)
def test_a_version_has_the_uuid_it_always_had(note_id: uuid.UUID, version: str) -> None:
    assert version_id(note_id, version) == str(uuid.uuid5(note_id, version))
    assert version_identifier(note_id, version) == uuid.uuid5(note_id, version).urn
