from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from medscribe_pipeline.sandbox import AskaraOptions, CorpusOptions, Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

LIST_FIELDS = {"uuid", "patient", "createdAt", "updatedAt", "archivedAt", "user", "audioWorkflowStepV3"}
DETAIL_FIELDS = LIST_FIELDS | {"documents", "images", "meeting", "languageSpoken", "mediaRecorderType"}
PATIENT_FIELDS = {
    "uuid", "firstName", "lastName", "languageSpoken", "createdAt", "updatedAt", "synchronizedAt", "dateOfBirth",
    "gender", "visibilityOption", "email", "phone", "anonymousCode",
}  # fmt: skip
USER_FIELDS = {
    "uuid", "email", "createdAt", "updatedAt", "firstName", "lastName", "gender", "phone", "rpps", "am",
}  # fmt: skip
NOTE_FIELDS = {"uuid", "type", "content", "createdAt", "updatedAt", "patient"}


def _walk(client: httpx.Client, path: str, **parameters: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for number in range(1, 100):
        answer = client.get(path, params={"page": number, "itemsPerPage": 7, **parameters})
        assert answer.status_code == 200, answer.text
        if not answer.json():
            return found
        found.extend(answer.json())
    raise AssertionError("the list does not end")


def _whole(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [record for record in records if "uuid" in record and isinstance(record["updatedAt"], str)]


def test_list_items_have_the_documented_fields(askara: httpx.Client) -> None:
    audios = _whole(_walk(askara, "/audios"))

    assert {frozenset(audio) for audio in audios} == {frozenset(LIST_FIELDS)}
    assert {type(audio["patient"]) for audio in audios} == {str, type(None)}
    assert {frozenset(audio["user"]) for audio in audios if audio["user"]} == {frozenset(USER_FIELDS)}
    assert all(audio["createdAt"].endswith("Z") for audio in audios)


def test_the_detail_has_the_documented_fields_and_the_patient_as_an_object(askara: httpx.Client) -> None:
    item = next(audio for audio in askara.get("/audios").json() if audio["patient"])

    detail = askara.get(f"/audios/{item['uuid']}").json()

    assert set(detail) == DETAIL_FIELDS
    assert set(detail["patient"]) == PATIENT_FIELDS
    assert detail["patient"]["uuid"] == item["patient"]
    assert detail["patient"]["dateOfBirth"].endswith("Z")


def test_expand_makes_the_patient_an_object_in_lists(askara: httpx.Client) -> None:
    whole = askara.get("/audios", params={"expand[]": "patient.read"}).json()
    short = askara.get("/audios", params={"expand[]": "patient.list"}).json()

    assert {frozenset(audio["patient"]) for audio in whole if audio["patient"]} == {frozenset(PATIENT_FIELDS)}
    assert all(set(audio["patient"]) < PATIENT_FIELDS for audio in short if audio["patient"])


def test_notes_have_the_fields_of_the_guide(askara: httpx.Client) -> None:
    notes = _whole(_walk(askara, "/notes"))
    detail = askara.get(f"/notes/{notes[0]['uuid']}").json()

    assert {frozenset(note) for note in notes} == {frozenset(NOTE_FIELDS)}
    assert {frozenset(note["patient"]) for note in notes if note["patient"]} == {
        frozenset({"uuid", "firstName", "lastName"})
    }
    assert all(note["updatedAt"].endswith("+00:00") for note in notes)
    assert set(detail) == NOTE_FIELDS | {"audio", "user"}
    assert askara.get("/notes", params={"audio": detail["audio"]}).json()[0]["uuid"] in {note["uuid"] for note in notes}


def test_paging_sees_every_audio_once_in_order(askara: httpx.Client) -> None:
    audios = _whole(_walk(askara, "/audios", **{"order[updatedAt]": "asc", "order[uuid]": "asc"}))

    keys = [(audio["updatedAt"], audio["uuid"]) for audio in audios]
    assert keys == sorted(keys)
    assert len(set(keys)) == 60 - 2
    assert len(_walk(askara, "/audios")) == 60


def test_a_full_last_page_is_followed_by_an_empty_one(askara: httpx.Client) -> None:
    assert len(askara.get("/audios", params={"page": 3, "itemsPerPage": 20}).json()) == 20
    assert askara.get("/audios", params={"page": 4, "itemsPerPage": 20}).json() == []
    assert askara.get("/audios", params={"itemsPerPage": 0}).json() == []
    assert len(askara.get("/audios").json()) == 20


@pytest.mark.parametrize(
    ("operator", "value", "is_in"),
    [
        ("gte", "2026-03-25T00:00:00Z", lambda t: t >= "2026-03-25"),
        ("gt", "2026-03-25T01:00:00+01:00", lambda t: t > "2026-03-25T00:00:00Z"),
        ("lt", "2026-03-25", lambda t: t < "2026-03-25"),
        ("lte", "2026-03-25T00:00:00Z", lambda t: t <= "2026-03-25T00:00:00Z"),
        (
            "between",
            "2026-03-24T00:00:00Z..2026-03-26T00:00:00Z",
            lambda t: "2026-03-24" <= t <= "2026-03-26T00:00:00Z",
        ),
    ],
)
def test_date_filters(askara: httpx.Client, operator: str, value: str, is_in: Callable[[str], bool]) -> None:
    everything = _whole(_walk(askara, "/audios"))

    found = _whole(_walk(askara, "/audios", **{f"updatedAt[{operator}]": value}))

    assert {audio["uuid"] for audio in found} == {audio["uuid"] for audio in everything if is_in(audio["updatedAt"])}
    assert 0 < len(found) < len(everything)


def test_a_lower_bound_is_inclusive(askara: httpx.Client) -> None:
    audio = _whole(askara.get("/audios").json())[0]

    found = _whole(_walk(askara, "/audios", **{"updatedAt[gte]": audio["updatedAt"]}))

    assert audio["uuid"] in {one["uuid"] for one in found}


def test_archived_filters(askara: httpx.Client) -> None:
    everything = _whole(_walk(askara, "/audios"))
    archived = _walk(askara, "/audios", **{"exists[archivedAt]": "true"})
    others = _whole(_walk(askara, "/audios", **{"exists[archivedAt]": "false"}))
    lately = _walk(askara, "/audios", **{"archivedAt[gte]": "2026-03-01T00:00:00Z"})

    assert archived
    assert all(audio["archivedAt"] for audio in archived)
    assert {a["uuid"] for a in everything} == {a["uuid"] for a in [*archived, *others]}
    assert lately == archived


def test_archived_audios_can_be_left_out_by_default(clients: Callable[[Sandbox, str], httpx.Client]) -> None:
    with Sandbox(askara=AskaraOptions(lists_archived=False)) as sandbox:
        askara = clients(sandbox, "askara")

        assert not any(audio["archivedAt"] for audio in _walk(askara, "/audios"))
        assert _walk(askara, "/audios", **{"exists[archivedAt]": "true"})


def test_equality_filters_and_search(askara: httpx.Client) -> None:
    audios = _whole(_walk(askara, "/audios"))
    one, two = audios[:2]
    patient = next(audio["patient"] for audio in audios if audio["patient"])

    assert [a["uuid"] for a in askara.get("/audios", params={"uuid": one["uuid"]}).json()] == [one["uuid"]]
    both = askara.get("/audios", params={"uuid[]": [one["uuid"], two["uuid"]]}).json()
    assert {a["uuid"] for a in both} == {one["uuid"], two["uuid"]}
    assert {a["patient"] for a in askara.get("/audios", params={"patient": patient}).json()} == {patient}
    assert askara.get("/audios", params={"search": "EPROUVETTE"}).json()
    assert askara.get("/audios", params={"search": "nobody"}).json() == []


@pytest.mark.parametrize(
    "parameters",
    [
        {"page": "0"},
        {"page": "x"},
        {"itemsPerPage": "101"},
        {"itemsPerPage": "0", "page": "2"},
        {"order[updatedAt]": "up"},
        {"updatedAt[gte]": "yesterday"},
        {"exists[archivedAt]": "1"},
        {"expand[]": "everything"},
        {"udpatedAt[gte]": "2026-03-25"},
        {"workflowStep": "validated"},
    ],
)
def test_bad_parameters_are_problems(askara: httpx.Client, parameters: dict[str, str]) -> None:
    answer = askara.get("/audios", params=parameters)

    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(answer.json()) == {"type", "title", "status", "detail", "instance"}


def test_unknown_things_are_problems(askara: httpx.Client) -> None:
    assert askara.get("/audios/00000000-0000-0000-0000-000000000000").status_code == 404
    assert askara.get("/notes/00000000-0000-0000-0000-000000000000").json()["status"] == 404
    assert askara.get("/nothing").headers["content-type"] == "application/problem+json"
    assert askara.post("/audios").status_code == 405


def test_malformed_records_are_in_the_list(askara: httpx.Client) -> None:
    audios, notes = _walk(askara, "/audios"), _walk(askara, "/notes")

    assert len([audio for audio in audios if "uuid" not in audio]) == 1
    assert len([audio for audio in audios if not isinstance(audio["updatedAt"], str)]) == 1
    assert len([note for note in notes if not isinstance(note["content"], str)]) == 1


def test_every_answer_tells_the_rate_limit_and_the_last_one_enforces_it(
    clients: Callable[[Sandbox, str], httpx.Client],
) -> None:
    with Sandbox(askara=AskaraOptions(rate_limit=3, rate_refill=9), clock=lambda: 1000.0) as sandbox:
        askara = clients(sandbox, "askara")

        answers = [askara.get("/me") for _ in range(4)]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert [answer.headers["x-ratelimit-remaining"] for answer in answers] == ["2", "1", "0", "0"]
    assert {answer.headers["x-ratelimit-limit"] for answer in answers} == {"3"}
    assert int(answers[0].headers["x-ratelimit-reset"]) == 1000 + 100 + 1
    assert answers[3].headers["retry-after"] == "101"


def test_pages_of_five_thousand_are_sorted_once(clients: Callable[[Sandbox, str], httpx.Client]) -> None:
    with Sandbox(corpus=CorpusOptions(days=50, audios_per_day=100, sessions_per_day=1)) as sandbox:
        askara = clients(sandbox, "askara")
        parameters: dict[str, Any] = {"itemsPerPage": 100, "order[updatedAt]": "asc", "order[uuid]": "asc"}
        askara.get("/audios", params=parameters)
        elapsed = [askara.get("/audios", params={**parameters, "page": page}).elapsed for page in range(2, 51)]

    # A sort of five thousand takes tens of milliseconds; a slice and its JSON a few.
    assert sorted(elapsed)[len(elapsed) // 2].total_seconds() < 0.02
