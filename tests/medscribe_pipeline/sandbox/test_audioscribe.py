from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import pytest

from medscribe_pipeline.sandbox import AudioScribeOptions, Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

FIELDS = {"id", "title", "note", "originalTranscript", "tags", "createdAt"}
PATH = "/api/v1/audioscribe/sessions/"


def _walk(client: httpx.Client) -> list[list[dict[str, Any]]]:
    pages: list[list[dict[str, Any]]] = []
    for number in range(100):
        page = client.get(PATH, params={"page": number}).json()
        if not page:
            return pages
        pages.append(page)
    raise AssertionError("the list does not end")


def test_pages_from_zero_hold_every_session_once(audioscribe: httpx.Client) -> None:
    pages = _walk(audioscribe)

    ids = [session.get("id") for page in pages for session in page]
    assert [len(page) for page in pages] == [10, 10, 10, 10]
    assert len(set(ids)) == 40
    assert audioscribe.get(PATH).json() == pages[0]


def test_items_and_detail_have_the_documented_fields(audioscribe: httpx.Client) -> None:
    item = audioscribe.get(PATH).json()[0]

    assert set(item) == FIELDS
    assert type(item["id"]) is int
    assert item["tags"] == ""
    assert audioscribe.get(f"{PATH}{item['id']}/").json() == item
    assert audioscribe.get(f"/api/v1/audioscribe/notes/{item['id']}/").json() == item


def test_malformed_sessions_are_in_the_list(audioscribe: httpx.Client) -> None:
    sessions = [session for page in _walk(audioscribe) for session in page]

    assert len([session for session in sessions if "id" not in session]) == 1
    assert len([session for session in sessions if isinstance(session.get("id"), str)]) == 1


@pytest.mark.parametrize("newest_first", [True, False])
def test_order_is_an_option(clients: Callable[[Sandbox, str], httpx.Client], newest_first: bool) -> None:
    with Sandbox(audioscribe=AudioScribeOptions(newest_first=newest_first, page_size=100)) as sandbox:
        sessions = clients(sandbox, "audioscribe").get(PATH).json()

    ids = [session["id"] for session in sessions if isinstance(session.get("id"), int)]
    assert ids == sorted(ids, reverse=newest_first)


@pytest.mark.parametrize(
    ("past_the_end", "expected"), [("empty", (200, 0)), ("not_found", (404, 1)), ("clamp", (200, 4))]
)
def test_past_the_end_is_an_option(
    clients: Callable[[Sandbox, str], httpx.Client],
    past_the_end: Literal["empty", "not_found", "clamp"],
    expected: tuple[int, int],
) -> None:
    with Sandbox(audioscribe=AudioScribeOptions(page_size=12, past_the_end=past_the_end)) as sandbox:
        answer = clients(sandbox, "audioscribe").get(PATH, params={"page": 4})

    assert (answer.status_code, len(answer.json())) == expected


def test_an_edited_session_keeps_its_place_and_a_new_one_comes_first(
    clients: Callable[[Sandbox, str], httpx.Client],
) -> None:
    with Sandbox() as sandbox:
        audioscribe = clients(sandbox, "audioscribe")
        before = audioscribe.get(PATH).json()

        sandbox.world.edit_session(str(before[3]["id"]), "qxcanary edited")
        key = sandbox.world.add_session(title="qxcanary new")
        after = audioscribe.get(PATH).json()

    assert after[0]["id"] == int(key)
    assert after[4] == {**before[3], "note": "qxcanary edited"}


@pytest.mark.parametrize("path", [PATH, f"{PATH}4010/"])
def test_no_good_token_no_data(audioscribe: httpx.Client, path: str) -> None:
    answer = audioscribe.get(path, headers={"authorization": "Bearer wrong"})

    assert (answer.status_code, answer.json()) == (401, {"detail": "Invalid token."})


@pytest.mark.parametrize(
    "path", [PATH.rstrip("/"), f"{PATH}4010", f"{PATH}999999/", f"{PATH}?page=-1", f"{PATH}?page=x"]
)
def test_what_is_not_there_is_404(audioscribe: httpx.Client, path: str) -> None:
    answer = audioscribe.get(path)

    assert answer.status_code == 404
    assert "detail" in answer.json()
