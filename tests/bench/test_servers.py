"""What contestants ask and load: the provider's pages, PostgreSQL, places that begin alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import httpx
import orjson
import psycopg
import pytest

from bench.places import Place, Places
from bench.postgres import postgres
from bench.processes import Failed, server
from bench.sessions import DAYS, HEADINGS, Pages
from medscribe_pipeline.providers.audioscribe import SessionWire

if TYPE_CHECKING:
    from pathlib import Path

Size = Literal["small", "full"]


@pytest.mark.parametrize(("size", "least", "most"), [("small", 2_500, 3_300), ("full", 22_000, 28_000)])
def test_sessions_are_as_large_as_they_are_said_to_be(size: Size, least: int, most: int) -> None:
    assert least < len(Pages(100, size)[0]) / 100 < most


def test_pages_hold_each_session_once_and_end() -> None:
    pages = Pages(250)

    sessions = [SessionWire.model_validate(each) for page in range(4) for each in orjson.loads(pages[page])]

    assert [each.id for each in sessions] == [f"s-{number:07d}" for number in range(250)]
    assert len({str(each.created_at)[:10] for each in sessions}) == DAYS
    assert len({each.note for each in sessions}) == 250


def test_a_list_of_sections_has_the_same_words() -> None:
    as_text, as_list = (orjson.loads(Pages(1, sections=each)[0])[0] for each in (False, True))

    told = "\n\n".join(f"{section['key'].upper()}:\n{section['text']}" for section in as_list["sections"])

    assert told == as_text["note"]
    assert [section["key"] for section in as_list["sections"]] == list(HEADINGS)


def test_the_provider_counts_what_it_is_asked() -> None:
    with server("bench.provider", "101") as url, httpx.Client(base_url=url) as client:
        lengths = [len(client.get("/sessions/", params={"page": page}).json()) for page in range(3)]
        listed = client.get("/sessions/", params={"sections": "list", "page": 1}).json()

        assert lengths == [100, 1, 0]
        assert len(listed[0]["sections"]) == len(HEADINGS)
        assert [client.get("/requests").text for _ in range(2)] == ["4", "0"]


def test_a_server_that_does_not_start_is_told() -> None:
    with pytest.raises(Failed, match="did not start"), server("bench.sessions"):
        pass


def test_every_place_begins_like_the_one_that_was_prepared(tmp_path: Path) -> None:
    prepared: list[Place] = []

    def prepare(place: Place) -> None:
        prepared.append(place)
        (place.folder / "file").write_text("as prepared")
        with psycopg.connect(place.url) as connection:
            connection.execute("CREATE TABLE things AS SELECT generate_series(1, 3) AS n")

    with postgres() as database:
        places = Places(tmp_path, database)
        for _ in range(2):
            with places.copy("things", "postgres", prepare) as place:
                before = places.rows_written(place)
                (place.folder / "file").write_text("changed")
                with psycopg.connect(place.url) as connection:
                    connection.execute("DELETE FROM things WHERE n = 1")

                assert (before, places.rows_written(place)) == (0, 1)
            assert not place.folder.exists()
        assert len(prepared) == 1
        assert (prepared[0].folder / "file").read_text() == "as prepared"
        assert places.server_cpu_s() > 0
        places.close()

    assert list(tmp_path.iterdir()) == []
