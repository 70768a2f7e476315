"""Whole syncs over real HTTP: what is asked for, in which words, and what a second sync costs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

import orjson
import pytest

from medscribe_pipeline.errors import Busy, ConfigError, Rejected, Retriable
from medscribe_pipeline.providers import askara, audioscribe
from medscribe_pipeline.providers.catalogue import PROVIDERS
from medscribe_pipeline.providers.own_counts import NO_COUNT, OwnCount, ask_own_counts
from medscribe_pipeline.providers.pull import Window
from medscribe_pipeline.providers.sync import SyncReport, sync_stream
from medscribe_pipeline.providers.wire import wire_time
from medscribe_pipeline.settings import AskaraSettings, AudioScribeSettings, Settings
from medscribe_pipeline.warehouse.cursors import read_cursors
from medscribe_pipeline.warehouse.store import Warehouse
from medscribe_pipeline.warehouse.tables import oauth_tokens, quarantine, source_records, sync_cursor_history
from tests.databases import NOW, dump, landing_for, rows_of, writes_of
from tests.medscribe_pipeline.providers.mapped import audio, note, session
from tests.medscribe_pipeline.providers.scripted_server import Reply, ScriptedServer, Seen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LATER = NOW + timedelta(hours=4)


class Vendor:
    """Both providers' lists and details from dictionaries; remembers every query."""

    def __init__(self, server: ScriptedServer) -> None:
        self.audios: dict[str, dict[str, Any]] = {}
        self.notes: dict[str, dict[str, Any]] = {}
        self.sessions: list[dict[str, Any]] = []
        self.queries: list[tuple[str, dict[str, str]]] = []
        self.hides_archived = True
        self.past_the_end = Reply(body=b"[]")
        self.authorization: list[str] = []
        self.fails_on: set[str] = set()
        server.responder = self._respond

    def asked(self, path: str) -> list[dict[str, str]]:
        return [query for asked, query in self.queries if asked == path]

    def _respond(self, seen: Seen) -> Reply:
        url = urlsplit(seen.path)
        query = dict(parse_qsl(url.query))
        self.queries.append((unquote(url.path), query))
        self.authorization.append(seen.headers.get("authorization", ""))
        if url.path in self.fails_on:
            return Reply(status=500)
        if url.path == "/oauth2/token":
            return self._json({"access_token": "fresh", "refresh_token": "next", "expires_in": 3600})
        if url.path.startswith("/api/v1/audioscribe/"):
            page = int(query["page"])
            found = self.sessions[page * 2 : page * 2 + 2]
            return self._json(found) if found else self.past_the_end
        _, resource, *rest = url.path.split("/")
        records = {"audios": self.audios, "notes": self.notes}[resource]
        if rest:
            record = records.get(unquote(rest[0]))
            return self._json(record) if record else Reply(status=404)
        return self._json(self._list(records, query))

    def _list(self, records: dict[str, dict[str, Any]], query: dict[str, str]) -> list[dict[str, Any]]:
        found = list(records.values())
        if "audio" in query:
            found = [record for record in found if record["audio"] == f"/audios/{query['audio']}"]
        if "exists[archivedAt]" in query:
            found = [record for record in found if record["archivedAt"]]
        elif self.hides_archived:
            found = [record for record in found if not record.get("archivedAt")]
        for field in ("updatedAt", "archivedAt"):
            if low := query.get(f"{field}[gte]"):
                found = [record for record in found if record[field] >= low[:19]]
            if order := query.get(f"order[{field}]"):
                found.sort(key=lambda record: (record[field], record["uuid"]), reverse=order == "desc")
        size, page = int(query["itemsPerPage"]), int(query["page"])
        shown = ("uuid", "createdAt", "updatedAt", "archivedAt", "audioWorkflowStepV3")
        return [
            {key: record[key] for key in shown if key in record} for record in found[(page - 1) * size : page * size]
        ]

    @staticmethod
    def _json(body: Any) -> Reply:
        return Reply(body=orjson.dumps(body))


@pytest.fixture
def settings(make_settings: Callable[..., Settings], tmp_path: Path) -> Settings:
    """One database: each statement of a sync is tested on both elsewhere."""
    return make_settings(warehouse_url=f"sqlite:///{tmp_path / 'warehouse.sqlite'}")


@pytest.fixture
def warehouse(settings: Settings) -> Iterator[Warehouse]:
    with Warehouse.open(settings) as opened:
        yield opened


@pytest.fixture
def vendor(server: ScriptedServer) -> Vendor:
    return Vendor(server)


@pytest.fixture
def ours(settings: Settings, server: ScriptedServer) -> Settings:
    polite = {"max_attempts": 1, "timeout_s": 5, "base_url": server.url}
    return settings.model_copy(
        update={
            "askara": AskaraSettings(**{**polite, "token": "fixed", "page_size": 2}),  # type: ignore[arg-type]
            "audioscribe": AudioScribeSettings(**{**polite, "token": "fixed"}),  # type: ignore[arg-type]
        }
    )


def with_askara(settings: Settings, **changes: Any) -> Settings:
    return settings.model_copy(update={"askara": settings.askara.model_copy(update=changes)})


def with_audioscribe(settings: Settings, **changes: Any) -> Settings:
    return settings.model_copy(update={"audioscribe": settings.audioscribe.model_copy(update=changes)})


def sync(
    warehouse: Warehouse,
    settings: Settings,
    provider: str,
    stream: str,
    window: Window | None = None,
    now: datetime = LATER,
) -> SyncReport:
    return sync_stream(warehouse, settings, provider, stream, window or Window(), clock=lambda: now, run_id="run-9")


def landed(warehouse: Warehouse) -> list[str]:
    return [row["source_id"] for row in rows_of(warehouse, source_records)]


def test_audios_are_asked_for_in_order_and_each_once(warehouse: Warehouse, ours: Settings, vendor: Vendor) -> None:
    for number in range(3):
        vendor.audios[f"a-{number}"] = audio(uuid=f"a-{number}", updatedAt=f"2026-03-02T08:3{number}:00Z")

    report = sync(warehouse, ours, "askara", "audios")

    assert landed(warehouse) == ["a-0", "a-1", "a-2"]
    assert vendor.asked("/audios")[0] == {
        "page": "1",
        "itemsPerPage": "2",
        "order[updatedAt]": "asc",
        "order[uuid]": "asc",
    }
    assert [len(vendor.asked(f"/audios/a-{number}")) for number in range(3)] == [1, 1, 1]
    assert set(vendor.authorization) == {"Bearer fixed"}
    assert report.pulled.watermark == datetime(2026, 3, 2, 8, 32, tzinfo=UTC)
    assert report.requests == len(vendor.queries)
    assert report.received_bytes > 0
    assert (report.provider, report.stream, report.pulled.landed.new) == ("askara", "audios", 3)


def test_a_second_sync_asks_little_and_writes_nothing(warehouse: Warehouse, ours: Settings, vendor: Vendor) -> None:
    vendor.audios["a-1"] = audio()
    sync(warehouse, ours, "askara", "audios")
    before = dump(warehouse)
    vendor.queries.clear()

    sync(warehouse, ours, "askara", "audios")

    assert dump(warehouse) == before
    first, archived = vendor.asked("/audios")
    assert first["updatedAt[gte]"] == "2026-03-02T08:20:00.000000Z"
    assert archived["exists[archivedAt]"] == "true"
    assert len(vendor.queries) == 2


def test_a_second_sync_of_sessions_asks_once_for_each_page_and_writes_nothing(
    warehouse: Warehouse, ours: Settings, vendor: Vendor
) -> None:
    vendor.sessions = [session(id=number) for number in range(5)]
    sync(warehouse, ours, "audioscribe", "sessions")
    vendor.queries.clear()

    with writes_of(warehouse) as written:
        report = sync(warehouse, ours, "audioscribe", "sessions")

    asked = [int(query["page"]) for query in vendor.asked("/api/v1/audioscribe/sessions/")]
    assert sorted(asked) == [0, 1, 2, 3], "three pages, and the empty one that says there is no more"
    assert report.pulled.landed.unchanged == 5
    assert written == []


@pytest.mark.parametrize("hides_archived", [True, False])
def test_archived_audios_are_seen_whether_lists_hide_them_or_not(
    warehouse: Warehouse, ours: Settings, vendor: Vendor, hides_archived: bool
) -> None:
    vendor.hides_archived = hides_archived
    vendor.audios["a-1"] = audio()
    vendor.audios["a-2"] = audio(uuid="a-2")
    sync(warehouse, ours, "askara", "audios")
    vendor.audios["a-1"] = audio(archivedAt="2026-03-02T09:00:00Z")

    report = sync(warehouse, ours, "askara", "audios")

    assert report.pulled.landed.changed >= 1
    assert rows_of(warehouse, source_records)[0]["payload"]["archivedAt"] == "2026-03-02T09:00:00Z"
    streams = {row["stream"] for row in rows_of(warehouse, sync_cursor_history)}
    assert streams == {"audios", "audios_archived"}


def test_notes_hang_on_their_audio(warehouse: Warehouse, ours: Settings, vendor: Vendor) -> None:
    vendor.audios["a-1"] = audio()
    vendor.notes["n-1"] = note()
    sync(warehouse, ours, "askara", "audios")

    sync(warehouse, ours, "askara", "notes")

    rows = {row["source_id"]: row for row in rows_of(warehouse, source_records)}
    assert rows["n-1"]["parent_id"] == "a-1"
    assert rows["n-1"]["visit_day"] == rows["a-1"]["visit_day"]


def test_notes_may_be_asked_for_by_audio(warehouse: Warehouse, ours: Settings, vendor: Vendor) -> None:
    ours = with_askara(ours, notes_by="audio")
    for number in range(2):
        vendor.audios[f"a-{number}"] = audio(uuid=f"a-{number}")
    for number in range(5):
        vendor.notes[f"n-{number}"] = note(uuid=f"n-{number}", audio="/audios/a-0")
    sync(warehouse, ours, "askara", "audios")

    first = sync(warehouse, ours, "askara", "notes")
    asked = vendor.asked("/notes")
    vendor.queries.clear()
    before = dump(warehouse)
    second = sync(warehouse, ours, "askara", "notes")
    quiet = len(vendor.queries)
    vendor.audios["a-1"] = audio(uuid="a-1", updatedAt="2026-03-02T09:00:00Z")
    sync(warehouse, ours, "askara", "audios")
    vendor.queries.clear()
    sync(warehouse, ours, "askara", "notes")

    assert (first.pulled.landed.new, second.pulled.landed.new) == (5, 0)
    assert [f"{query['audio']} {query['page']}" for query in asked] == ["a-0 1", "a-0 2", "a-0 3", "a-1 1"]
    assert quiet == 0
    assert before["source_records"][2]["parent_id"] == "a-0"
    assert [query["audio"] for query in vendor.asked("/notes")] == ["a-1"]


def test_a_full_refresh_asks_for_the_notes_of_every_audio(warehouse: Warehouse, ours: Settings, vendor: Vendor) -> None:
    ours = with_askara(ours, notes_by="audio")
    vendor.audios["a-1"] = audio()
    vendor.notes["n-1"] = note()
    sync(warehouse, ours, "askara", "audios")
    sync(warehouse, ours, "askara", "notes")
    vendor.notes["n-1"] = note(content="Corrected in silence.")

    report = sync(warehouse, ours, "askara", "notes", Window(full=True))

    assert report.pulled.landed.changed == 1


@pytest.mark.parametrize("notes_by", ["list", "audio"])
def test_a_note_nobody_answered_for_is_asked_for_again(
    warehouse: Warehouse, ours: Settings, vendor: Vendor, notes_by: str
) -> None:
    ours = with_askara(ours, notes_by=notes_by)
    vendor.audios["a-1"] = audio()
    vendor.notes["n-1"] = note()
    vendor.fails_on = {"/notes/n-1"}
    sync(warehouse, ours, "askara", "audios")
    sync(warehouse, ours, "askara", "notes")
    waiting = [row["error_code"] for row in rows_of(warehouse, quarantine)]
    vendor.fails_on = set()

    sync(warehouse, ours, "askara", "notes")

    assert waiting == ["detail_failed"]
    assert landed(warehouse) == ["a-1", "n-1"]
    assert rows_of(warehouse, quarantine)[0]["resolved_at"] == LATER


def test_an_id_cannot_lead_anywhere_else(warehouse: Warehouse, ours: Settings, vendor: Vendor) -> None:
    tricky = ["a/../../notes", "a?admin=1#x", "a b%2F", "é"]
    for source_id in tricky:
        vendor.audios[source_id] = audio(uuid=source_id)

    sync(warehouse, ours, "askara", "audios")

    assert sorted(landed(warehouse)) == sorted(tricky)
    assert rows_of(warehouse, quarantine) == []


def test_a_window_is_asked_for_in_utc_and_with_both_ends(warehouse: Warehouse, ours: Settings, vendor: Vendor) -> None:
    window = Window(since=NOW, until=NOW + timedelta(hours=1))

    sync(warehouse, ours, "askara", "audios", window)

    query = vendor.asked("/audios")[0]
    assert query["updatedAt[gte]"] == "2026-03-02T09:00:00.000000Z"
    assert query["updatedAt[lte]"] == "2026-03-02T10:00:00.000000Z"


def test_times_on_the_wire_lose_nothing() -> None:
    moment = datetime.fromisoformat("2026-03-02T10:00:00.000001+01:00")

    assert wire_time(moment) == "2026-03-02T09:00:00.000001Z"


def test_tokens_are_refreshed_and_kept(warehouse: Warehouse, ours: Settings, server: ScriptedServer) -> None:
    vendor = Vendor(server)
    oauth = AskaraSettings(
        base_url=server.url,
        client_id="client",
        client_secret="secret",
        refresh_token="first",
    )
    ours = ours.model_copy(update={"askara": oauth})

    sync(warehouse, ours, "askara", "audios")
    sync(warehouse, ours, "askara", "notes")

    assert len(vendor.asked("/oauth2/token")) == 1
    assert [row["refresh_token"] for row in rows_of(warehouse, oauth_tokens)] == ["next"]
    assert vendor.authorization[1:] == ["Bearer fresh"] * 3


def test_one_sync_of_a_stream_at_a_time(warehouse: Warehouse, ours: Settings, vendor: Vendor) -> None:
    with warehouse.locks.hold("sync:default:askara:audios", 0), pytest.raises(Busy):
        sync(warehouse, ours, "askara", "audios")

    assert vendor.queries == []
    assert sync(warehouse, ours, "askara", "audios").pulled.complete


def test_a_session_list_ends_at_an_empty_page_or_a_404(warehouse: Warehouse, ours: Settings, vendor: Vendor) -> None:
    vendor.sessions = [session(id=number) for number in range(5)]
    first = sync(warehouse, ours, "audioscribe", "sessions")
    vendor.past_the_end = Reply(status=404)
    second = sync(warehouse, ours, "audioscribe", "sessions")

    assert (first.pulled.landed.new, first.pulled.complete) == (5, True)
    assert (second.pulled.landed.unchanged, second.pulled.complete) == (5, True)
    assert vendor.asked("/api/v1/audioscribe/sessions/")[0] == {"page": "0"}


@pytest.mark.parametrize("first_page", [0, 1])
def test_a_404_at_the_first_page_is_a_wrong_url_not_an_empty_account(
    warehouse: Warehouse, ours: Settings, vendor: Vendor, first_page: int
) -> None:
    vendor.past_the_end = Reply(status=404)

    with pytest.raises(Rejected) as raised:
        sync(warehouse, with_audioscribe(ours, first_page=first_page), "audioscribe", "sessions")

    assert raised.value.code == "not_found"


def test_the_resource_may_have_either_name(warehouse: Warehouse, ours: Settings, vendor: Vendor) -> None:
    vendor.sessions = [session()]

    sync(warehouse, with_audioscribe(ours, resource="notes"), "audioscribe", "sessions")

    assert landed(warehouse) == ["17"]
    assert vendor.asked("/api/v1/audioscribe/notes/")


def test_clients_need_credentials(warehouse: Warehouse, make_settings: Callable[..., Settings]) -> None:
    bare = make_settings()

    for module in (askara, audioscribe):
        with pytest.raises(ConfigError) as raised, module.open_client(bare, warehouse):
            pass
        assert raised.value.code == "credentials"


def test_the_catalogue_names_every_stream_once() -> None:
    for name, provider in PROVIDERS.items():
        assert provider.name == name
        streams = [stream.name for stream in provider.streams]
        assert len(set(streams)) == len(streams)
        for stream in provider.streams:
            assert provider.stream(stream.name) is stream
            assert set(stream.after) <= set(streams[: streams.index(stream.name)])


def test_a_cursor_of_another_stream_is_left_alone(warehouse: Warehouse, ours: Settings, vendor: Vendor) -> None:
    vendor.audios["a-1"] = audio()

    sync(warehouse, ours, "askara", "audios")

    assert landing_for(warehouse, "askara", "notes").cursor().watermark is None


def complete_until(warehouse: Warehouse, provider: str, stream: str) -> datetime | None:
    with warehouse.read() as connection:
        row = read_cursors(connection, warehouse.account).get((provider, stream))
    return row.complete_until if row else None


@pytest.mark.parametrize(
    ("provider", "stream"), [("askara", "audios"), ("askara", "notes"), ("audioscribe", "sessions")]
)
def test_a_stream_read_to_its_end_is_complete_until_the_sync_began(
    warehouse: Warehouse, ours: Settings, vendor: Vendor, provider: str, stream: str
) -> None:
    assert vendor  # nothing has changed there for ever: that alone moves no watermark

    sync(warehouse, ours, provider, stream)

    assert complete_until(warehouse, provider, stream) == LATER - timedelta(seconds=ours.lag_s)


@pytest.mark.parametrize(
    ("provider", "stream"), [("askara", "audios"), ("askara", "notes"), ("audioscribe", "sessions")]
)
def test_a_sync_that_finds_nothing_new_writes_nothing(
    warehouse: Warehouse, ours: Settings, vendor: Vendor, provider: str, stream: str
) -> None:
    vendor.audios["a-1"], vendor.notes["n-1"] = audio(), note()
    vendor.sessions = [session(id=number) for number in range(4)]
    for before in ("audios", stream):
        sync(warehouse, ours, "askara" if before == "audios" else provider, before)

    with writes_of(warehouse) as written:
        again = sync(warehouse, ours, provider, stream, now=LATER + timedelta(minutes=15))

    assert (again.pulled.complete, again.pulled.taken_on) == (True, 0)
    assert written == []


@pytest.mark.parametrize(("news", "later"), [(True, 15), (False, 60)], ids=["news", "an-hour-later"])
def test_the_time_until_which_a_stream_is_complete_moves_on(
    warehouse: Warehouse, ours: Settings, vendor: Vendor, news: bool, later: int
) -> None:
    sync(warehouse, ours, "audioscribe", "sessions")
    if news:
        vendor.sessions = [session(id=1)]
    then = LATER + timedelta(minutes=later)

    sync(warehouse, ours, "audioscribe", "sessions", now=then)

    assert complete_until(warehouse, "audioscribe", "sessions") == then - timedelta(seconds=ours.lag_s)


@pytest.mark.parametrize("window", [Window(since=NOW), Window(until=NOW)], ids=["since", "until"])
def test_a_window_says_nothing_of_what_is_outside_it(
    warehouse: Warehouse, ours: Settings, vendor: Vendor, window: Window
) -> None:
    assert vendor

    sync(warehouse, ours, "askara", "audios", window)

    assert complete_until(warehouse, "askara", "audios") is None


def test_a_sync_that_broke_off_says_nothing(warehouse: Warehouse, ours: Settings, vendor: Vendor) -> None:
    vendor.fails_on = {"/audios"}

    with pytest.raises(Retriable):
        sync(warehouse, ours, "askara", "audios")

    assert complete_until(warehouse, "askara", "audios") is None


def test_a_reading_that_is_set_to_stop_at_known_pages_counts_as_one_to_the_end(
    warehouse: Warehouse, ours: Settings, vendor: Vendor
) -> None:
    vendor.sessions = [session(id=number) for number in range(9)]
    stopping = with_audioscribe(ours, stop_after_known_pages=1)
    sync(warehouse, ours, "audioscribe", "sessions")

    stopped = sync(warehouse, stopping, "audioscribe", "sessions")

    assert (stopped.pulled.pages, stopped.pulled.complete) == (1, False)
    assert complete_until(warehouse, "audioscribe", "sessions") == LATER - timedelta(seconds=ours.lag_s)


# What the provider itself counts


def own_counts(warehouse: Warehouse, settings: Settings) -> dict[str, OwnCount]:
    found = ask_own_counts(warehouse, settings, NOW - timedelta(days=1), NOW + timedelta(days=1))
    return {f"{each.provider} {each.stream}": each for each in found}


def test_what_the_provider_lists_of_a_day_is_looked_up_by_id_with_one_request_a_stream(
    warehouse: Warehouse, ours: Settings, vendor: Vendor
) -> None:
    vendor.audios = {"here": audio(uuid="here")}
    sync(warehouse, ours, "askara", "audios")
    vendor.audios["not-here"] = audio(uuid="not-here")
    vendor.queries.clear()

    found = own_counts(warehouse, with_askara(ours, page_size=100))

    assert found["askara audios"] == OwnCount("askara", "audios", counted=2, listed=2, missing=1)
    assert found["askara notes"] == OwnCount("askara", "notes", counted=0)
    assert found["audioscribe sessions"].code == NO_COUNT
    assert [path for path, _ in vendor.queries] == ["/audios", "/notes"]
    assert vendor.asked("/audios")[0] == {
        "page": "1",
        "itemsPerPage": "100",
        "createdAt[gte]": wire_time(NOW - timedelta(days=1)),
        "createdAt[lt]": wire_time(NOW + timedelta(days=1)),
    }


def test_a_full_page_is_a_lower_bound_and_a_total_is_exact(
    warehouse: Warehouse, ours: Settings, vendor: Vendor, server: ScriptedServer
) -> None:
    vendor.audios = {name: audio(uuid=name) for name in ("a", "b", "c")}
    full = own_counts(warehouse, ours)["askara audios"]
    body = orjson.dumps({"member": [{"uuid": "a"}], "totalItems": 7})
    server.responder = lambda _: Reply(body=body)

    total = own_counts(warehouse, ours)["askara audios"]

    assert (full.counted, full.at_least, full.missing) == (2, True, 2)
    assert (total.counted, total.at_least, total.listed, total.missing) == (7, False, 1, 1)


def test_a_provider_that_does_not_answer_stops_nothing(warehouse: Warehouse, ours: Settings, vendor: Vendor) -> None:
    vendor.fails_on = {"/audios"}

    found = own_counts(warehouse, ours)

    assert (found["askara audios"].counted, found["askara audios"].code) == (None, "server_error")
    assert found["askara notes"].counted == 0
