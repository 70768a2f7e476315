"""The search for patients and secrets finds them: planted in every place that is searched, in every form."""

from __future__ import annotations

import base64
import gzip
import json
import logging
import sqlite3
import subprocess
import sys
import zlib
from contextlib import closing
from typing import TYPE_CHECKING
from urllib.parse import quote

import dagster as dg
import pytest

from medscribe_pipeline.sandbox import MARKERS, CorpusOptions, Sandbox
from medscribe_pipeline.watching import logs, telemetry
from tests.canaries import Canaries, CommandLines, files_below, needles_of, secrets_in, texts_of_error, tokens_in
from tests.collector import hearing
from tests.end_to_end.watch import Remains
from tests.synced import DAGSTER_ON_PYDANTIC

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAME = "Éprouvette-0002"
CANARY = "qxcanary"
ALL = {*MARKERS, NAME}


@pytest.fixture
def canaries() -> Canaries:
    return Canaries(ALL)


@pytest.mark.parametrize(
    "hide",
    [
        str,
        json.dumps,
        lambda text: json.dumps(json.dumps(text)),
        repr,
        ascii,
        lambda text: quote(text, safe=""),
        lambda text: f"before{text}after",
    ],
)
def test_a_name_is_found_in_every_form(hide: Callable[[str], str], canaries: Canaries) -> None:
    assert canaries.among([hide(NAME)]) == {NAME}
    assert canaries.among([hide("Eprouvette-0002")]) == set()


@pytest.mark.parametrize("before", ["", "a", "ab", "abc"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_a_marker_is_found_in_base64_wherever_it_begins(
    before: str, encode: Callable[[bytes], bytes], canaries: Canaries
) -> None:
    assert canaries.among([encode(f"{before}{CANARY} and more".encode()).decode()]) == {CANARY}


@pytest.mark.parametrize("hidden", [KeyError(CANARY), ExceptionGroup("several", [KeyError(CANARY)]), KeyError("1")])
@pytest.mark.parametrize("link", ["__cause__", "__context__"])
def test_it_is_found_along_all_links_of_an_error(link: str, hidden: Exception, canaries: Canaries) -> None:
    error, between = ValueError("2"), ValueError("3")
    setattr(between, link, hidden)
    setattr(error, link, between)
    if hidden.args == ("1",):
        hidden.add_note(CANARY)

    assert canaries.in_error(error) == {CANARY}
    setattr(error, link, None)
    assert canaries.in_error(error) == set()


def test_errors_that_lead_to_themselves_have_an_end() -> None:
    first, second = ValueError("1"), ValueError("2")
    first.__context__, second.__context__ = second, first

    assert len(list(texts_of_error(first))) > 4


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zlib.compress])
def test_it_is_found_in_files_by_content_and_by_name(
    pack: Callable[[bytes], bytes], canaries: Canaries, tmp_path: Path
) -> None:
    inside, outside, clean = tmp_path / "a" / "b.tmp", tmp_path / f"{CANARY}.txt", tmp_path / "clean.txt"
    inside.parent.mkdir()
    inside.write_bytes(pack(f"a {NAME} b".encode()))
    outside.touch()
    clean.write_text("nothing")

    assert canaries.in_files(files_below([tmp_path])) == {inside: {NAME}, outside: {CANARY}}


@pytest.mark.parametrize("value", [NAME, zlib.compress(NAME.encode()), "x" * 9000 + NAME, b"x" * 4050 + NAME.encode()])
def test_it_is_found_in_every_value_of_a_database(value: str | bytes, canaries: Canaries, tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE events (id INTEGER PRIMARY KEY, event)")
        connection.executemany("INSERT INTO events (event) VALUES (?)", [("nothing",), (value,)])

    assert canaries.in_files([path]) == {path: {NAME}}


@pytest.mark.filterwarnings(DAGSTER_ON_PYDANTIC)
def test_it_is_found_in_what_dagster_keeps(canaries: Canaries, tmp_path: Path) -> None:
    in_log, in_metadata, in_output, in_failure = "Zzmark", "qxcanary", "ZZMARK", NAME

    @dg.asset
    def telling() -> dg.MaterializeResult[None]:
        dg.AssetExecutionContext.get().log.debug("a %s b", in_log)
        sys.stdout.write(f"a {in_output} b\n")
        sys.stdout.flush()
        return dg.MaterializeResult(metadata={"note": in_metadata})

    @dg.asset
    def failing() -> None:
        raise ValueError(in_failure)

    (tmp_path / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    logging.getLogger("dagster").setLevel(logging.CRITICAL)
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        dg.materialize([telling, failing], instance=instance, raise_on_error=False)

    found = canaries.in_files(files_below([tmp_path]))
    by_kind = {
        path.suffix: {needle for other, each in found.items() if other.suffix == path.suffix for needle in each}
        for path in found
    }
    assert by_kind[".out"] == {in_output}
    assert by_kind[".db"] == {in_log, in_metadata, in_failure}


def test_it_is_found_in_log_lines_spans_and_metrics(canaries: Canaries, capsys: pytest.CaptureFixture[str]) -> None:
    logs.start("json", "debug")
    with hearing() as heard:
        logging.getLogger("medscribe_pipeline.tested").debug("A word gets through: provider=%s", CANARY)
        with telemetry.span("medscribe.pull", stream=CANARY):
            pass
        traced = canaries.among(heard.texts())
        telemetry.add("medscribe.records", 1, provider=CANARY, stream="s", outcome="new")
        counted = canaries.among([repr(heard.points())])

    assert canaries.among([capsys.readouterr().err]) == {CANARY}
    assert traced == counted == {CANARY}


def test_it_is_found_among_arguments_of_a_process_and_its_children(canaries: Canaries) -> None:
    nested = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()', sys.argv[1]])"
    seen = CommandLines()
    with (
        subprocess.Popen(
            [sys.executable, "-c", nested, NAME], stdin=subprocess.PIPE, start_new_session=True, text=True
        ) as process,
        seen.watched(process.pid),
    ):
        process.communicate("\n", timeout=30)

    assert canaries.among(seen.seen) == {NAME}


def test_what_a_test_leaves_behind_is_searched_but_for_the_warehouse_and_what_was_asked_for(tmp_path: Path) -> None:
    remains = Remains(folders={tmp_path}, databases={tmp_path / "warehouse.sqlite"}, secrets={"a-long-enough-token"})
    for name in ("warehouse.sqlite", "warehouse.sqlite-wal", "asked.html", "left.tmp"):
        (tmp_path / name).write_text("a a-long-enough-token b")
    remains.named.add(str(tmp_path / "asked.html"))
    remains.note_output(["medscribe", "show", "--text"], "a-long-enough-token")
    assert remains.found() == {str(tmp_path / "left.tmp"): {"a-long-enough-token"}}

    remains.note_output(["medscribe", "show"], "", "a-long-enough-token")
    remains.lines.seen.add("medscribe show a-long-enough-token")

    assert set(remains.found()) == {str(tmp_path / "left.tmp"), "standard output and error", "command lines"}
    remains.empty()
    assert remains.found() == {}


def test_every_person_text_and_record_of_the_sandbox_is_known() -> None:
    sandbox = Sandbox(corpus=CorpusOptions(days=1, audios_per_day=2, sessions_per_day=1, recordings=2))
    with sandbox:
        world = sandbox.world
        canaries = Canaries(needles_of(world))
        whole = [
            json.dumps(record)
            for kind in ("patients", "users", "audios", "notes", "sessions")
            for record in world.records(kind).values()
        ]
        rows = [" ".join(str(value) for value in row.values()) for row in world.visits()]
        texts = [note["content"] for note in world.records("notes").values() if note["content"].strip()]

    assert [record for record in whole if not canaries.among([record])] == []
    assert [row for row in rows if not canaries.among([row])] == []
    assert [text for text in texts if not canaries.among([text])] == []


def test_secrets_are_those_of_the_settings_and_of_the_warehouse(tmp_path: Path) -> None:
    environment = {
        "MEDSCRIBE_EHR_TOKEN": "a-long-enough-token",
        "MEDSCRIBE_NABLA_WEBHOOK_SECRET": "another-secret-text",
        "MEDSCRIBE_ASKARA_TOKEN": "wrong",
        "MEDSCRIBE_HOME": "/a/long/enough/path",
    }
    with closing(sqlite3.connect(tmp_path / "warehouse.sqlite")) as connection, connection:
        connection.execute("CREATE TABLE oauth_tokens (refresh_token, access_token)")
        connection.execute("INSERT INTO oauth_tokens VALUES ('refresh', NULL)")

    assert secrets_in(environment) == {"a-long-enough-token", "another-secret-text"}
    assert tokens_in(tmp_path / "warehouse.sqlite") == {"refresh"}
    assert tokens_in(tmp_path / "nowhere.sqlite") == set()
