"""Everything a person can get wrong, or that can be out of order: one clear message, the right exit code, no damage."""

from __future__ import annotations

import os
import re
import signal
import socket
import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from medscribe_pipeline.visits import COLUMNS
from tests.end_to_end.command import Medscribe, finish, write_visits
from tests.end_to_end.states import tables_of, whole_state
from tests.end_to_end.trap import Fate, set_trap

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from medscribe_pipeline.sandbox import Sandbox
    from tests.end_to_end.command import Ended
    from tests.end_to_end.conftest import Undisturbed
    from tests.end_to_end.trap import Trap

pytestmark = pytest.mark.timeout(300)

BAD_SETTINGS, UNREACHABLE, INTERRUPTED = 2, 3, 130
ONE_TRY = {f"MEDSCRIBE_{name}_MAX_ATTEMPTS": "1" for name in ("ASKARA", "AUDIOSCRIBE", "EHR")}
TOKEN = {"MEDSCRIBE_AUDIOSCRIBE_TOKEN": "any"}
# Root may write anywhere but here.
NOWHERE = "/proc/medscribe"

# What is set, what is asked for, and what the message must say.
MISTAKES: dict[str, tuple[dict[str, str], list[str], list[str]]] = {
    "no provider": ({}, ["sync"], ["No provider is configured", "MEDSCRIBE_ASKARA_TOKEN"]),
    "half of OAuth": (
        {"MEDSCRIBE_ASKARA_CLIENT_ID": "clinic"},
        ["sync"],
        ["MEDSCRIBE_ASKARA_CLIENT_SECRET", "MEDSCRIBE_ASKARA_REFRESH_TOKEN", "missing"],
    ),
    "two kinds of credentials": (
        {"MEDSCRIBE_ASKARA_TOKEN": "t", "MEDSCRIBE_ASKARA_CLIENT_ID": "clinic"},
        ["sync"],
        ["MEDSCRIBE_ASKARA_TOKEN", "not both"],
    ),
    "a setting that is no number": ({**TOKEN, "MEDSCRIBE_LAG_S": "soon"}, ["sync"], ["MEDSCRIBE_LAG_S"]),
    "a time zone nobody knows": ({**TOKEN, "MEDSCRIBE_TIMEZONE": "Mars/Base"}, ["sync"], ["MEDSCRIBE_TIMEZONE"]),
    "a provider nobody knows": (TOKEN, ["sync", "--provider", "nobody"], ["nobody", "audioscribe"]),
    "a provider that is not configured": (TOKEN, ["sync", "--provider", "askara"], ["askara", "audioscribe"]),
    "a time that is none": (TOKEN, ["sync", "--since", "yesterday"], ["since", "2026-11-19"]),
    "an option that is none": (TOKEN, ["sync", "--quickly"], ["--quickly", "--help"]),
    "a command that is none": (TOKEN, ["synchronise"], ["synchronise", "--help"]),
    "an unwritable home": ({**TOKEN, "MEDSCRIBE_HOME": NOWHERE}, ["sync"], ["warehouse", "MEDSCRIBE_HOME"]),
    "an unwritable warehouse": (
        {**TOKEN, "MEDSCRIBE_WAREHOUSE_URL": f"sqlite:///{NOWHERE}/warehouse.sqlite"},
        ["init"],
        ["warehouse", "MEDSCRIBE_WAREHOUSE_URL"],
    ),
    "a URL that is none": (
        {**TOKEN, "MEDSCRIBE_WAREHOUSE_URL": "warehouse.sqlite"},
        ["init"],
        ["MEDSCRIBE_WAREHOUSE_URL"],
    ),
    "no such manifest": (TOKEN, ["visits", "import", "nowhere.csv"], ["does not exist", "nowhere.csv"]),
    "no such note": (TOKEN, ["show", "audioscribe:1"], ["no such note", "note ids"]),
    "a day that is none": (TOKEN, ["status", "--day", "Monday"], ["Not a day", "2026-11-19"]),
}


# What happens while the command starts is the same for all of them: these start as on a terminal.
COLD = {"no provider", "half of OAuth", "an unwritable warehouse"}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_one_message_says_what_to_do(mistake: str, tmp_path: Path) -> None:
    settings, arguments, said = MISTAKES[mistake]

    ended = Medscribe(tmp_path, settings, cold=mistake in COLD).run(*arguments)

    assert ended.code == BAD_SETTINGS
    assert ended.out == ""
    assert [part for part in said if part not in ended.message] == []
    assert "secret" not in ended.message


def test_a_database_server_that_does_not_answer_may_be_back_later(tmp_path: Path) -> None:
    url = "postgresql+psycopg://nobody:secret@127.0.0.1:1/none"

    ended = Medscribe(tmp_path, {**TOKEN, "MEDSCRIBE_WAREHOUSE_URL": url}).run("init")

    assert (ended.code, ended.out) == (UNREACHABLE, "")
    assert "warehouse_unreachable" in ended.message
    assert "MEDSCRIBE_WAREHOUSE_URL" in ended.message
    assert "secret" not in ended.message


def test_a_home_that_is_a_file(tmp_path: Path) -> None:
    medscribe = Medscribe(tmp_path, TOKEN)
    medscribe.home.write_text("")

    ended = medscribe.sync()

    assert (ended.code, "MEDSCRIBE_HOME" in ended.message) == (BAD_SETTINGS, True)


def test_a_dagster_folder_that_is_a_file(tmp_path: Path) -> None:
    medscribe = Medscribe(tmp_path, TOKEN)
    medscribe.home.mkdir()
    (medscribe.home / "dagster").write_text("")

    ended = medscribe.sync()

    assert (ended.code, "MEDSCRIBE_HOME" in ended.message) == (BAD_SETTINGS, True)


@pytest.mark.parametrize("what", ["a directory", "no database", "newer"])
def test_a_warehouse_that_cannot_be_used_is_left_as_it_is(what: str, tmp_path: Path) -> None:
    medscribe = Medscribe(tmp_path, TOKEN)
    medscribe.home.mkdir()
    if what == "a directory":
        medscribe.database.mkdir()
    elif what == "no database":
        medscribe.database.write_bytes(b"A letter to the editor, 1 p.\n" * 200)
    else:
        medscribe.run("init")
        with closing(sqlite3.connect(medscribe.database)) as connection, connection:
            connection.execute("UPDATE alembic_version SET version_num = '9999'")
    before = content(medscribe.database)

    ended = medscribe.sync()

    assert ended.code == BAD_SETTINGS
    assert ("newer version" if what == "newer" else "warehouse") in ended.message.lower().replace("_", " ")
    assert content(medscribe.database) == before


def test_a_corrupt_manifest_imports_nothing(medscribe: Medscribe, sandbox: Sandbox) -> None:
    before = tables_of(medscribe.database)
    rows = sandbox.world.visits()
    rows[0]["patient_id"] = "somebody else"
    path = medscribe.work / "corrupt.csv"
    write_visits(path, rows)
    with path.open("a", encoding="utf-8") as file:
        wrong = {"provider": "audioscribe", "correlation_key": "7", "started_at": "soon"}
        file.write(",".join(wrong.get(column, "") for column in COLUMNS) + "\naudioscribe\n")
    lines = len(path.read_text(encoding="utf-8").splitlines())

    ended = medscribe.run("visits", "import", str(path))

    assert ended.code == BAD_SETTINGS
    assert f"line {lines - 1}, column started_at" in ended.message
    assert f"line {lines}" in ended.message
    assert "soon" not in ended.message
    assert tables_of(medscribe.database) == before


def test_wrong_tokens_are_named_and_stop_nobody_else(
    medscribe: Medscribe, sandbox: Sandbox, undisturbed: Undisturbed
) -> None:
    askara = medscribe.sync(MEDSCRIBE_ASKARA_TOKEN="wrong", MEDSCRIBE_EHR_TOKEN="wrong")
    audioscribe = medscribe.sync(MEDSCRIBE_AUDIOSCRIBE_TOKEN="wrong")

    medscribe.sync()

    assert [ended.code for ended in (askara, audioscribe)] == [BAD_SETTINGS] * 2
    assert told_of(askara) == {"askara_audios": "MEDSCRIBE_ASKARA_TOKEN", "ehr_deliveries": "MEDSCRIBE_EHR_TOKEN"}
    assert told_of(audioscribe) == {"audioscribe_sessions": "MEDSCRIBE_AUDIOSCRIBE_TOKEN"}
    assert set(askara.json["run"]["sources"]) == {"audioscribe_sessions", "inbox_events"}
    assert set(audioscribe.json["run"]["sources"]) == {"askara_audios", "askara_notes", "inbox_events"}
    assert whole_state(medscribe.database, sandbox) == undisturbed.first


def test_hosts_nobody_answers_at_stop_nobody_else(
    medscribe: Medscribe, sandbox: Sandbox, undisturbed: Undisturbed
) -> None:
    with closed_port() as url:
        ended = medscribe.sync(MEDSCRIBE_ASKARA_BASE_URL=url, MEDSCRIBE_EHR_BASE_URL=url, **ONE_TRY)
    tables = tables_of(medscribe.database)

    medscribe.sync()

    failures = ended.json["run"]["failures"]
    assert ended.code == UNREACHABLE
    assert {(each["step"], each["code"]) for each in failures} == {
        ("askara_audios", "unreachable"),
        ("ehr_deliveries", "unreachable"),
    }
    assert {row["provider"] for row in tables["notes"]} == {"audioscribe"}
    assert len(tables["fhir_documents"]) == 3 * len(tables["notes"])
    assert whole_state(medscribe.database, sandbox) == undisturbed.first


def test_failures_of_a_run_are_told_to_people_too(medscribe: Medscribe) -> None:
    with closed_port() as url:
        ended = medscribe.run("sync", MEDSCRIBE_AUDIOSCRIBE_BASE_URL=url, MEDSCRIBE_ASKARA_TOKEN="wrong", **ONE_TRY)

    told = " ".join(ended.out.split())
    assert ended.code == BAD_SETTINGS
    assert ended.complaints == []
    assert "failed audioscribe_sessions: No connection could be made." in told
    assert "failed askara_audios: The server refused our credentials" in told
    assert "MEDSCRIBE_ASKARA_TOKEN" in told
    assert "Traceback" not in told


def test_ctrl_c_ends_in_one_line_and_the_next_run_completes(
    medscribe: Medscribe, sandbox: Sandbox, trap: Trap, undisturbed: Undisturbed
) -> None:
    stopped = [
        stop_at(medscribe, sandbox, trap, kind, number)
        for kind, number in (("GET /askara/audios/{uuid}", 5), ("POST /fhir", 3))
    ]

    medscribe.sync()

    for ended in stopped:
        assert ended.code == INTERRUPTED
        assert ended.message.startswith("medscribe: stopped.")
        assert ended.out == ""
    assert whole_state(medscribe.database, sandbox) == undisturbed.first


def stop_at(medscribe: Medscribe, sandbox: Sandbox, trap: Trap, kind: str, number: int) -> Ended:
    """Starts a sync and sends it SIGINT when the sandbox sees the n-th request of a kind."""
    process = medscribe.start("sync", "--json")
    set_trap(sandbox, trap, kind, number, Fate.ARRIVES, lambda: os.kill(process.pid, signal.SIGINT))
    return finish(process)


def told_of(ended: Ended) -> dict[str, str]:
    """By step that failed, the setting its message tells to check."""
    failures = ended.json["run"]["failures"]
    return {each["step"]: re.findall(r"setting=(\w+)", each["message"])[0] for each in failures}


@contextmanager
def closed_port() -> Iterator[str]:
    """A URL of a loopback port that stays taken, and that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def content(path: Path) -> Any:
    """What is at a path: the rows of a database, other bytes as they are, the names in a folder."""
    if path.is_dir():
        return sorted(path.iterdir())
    return tables_of(path) if path.read_bytes().startswith(b"SQLite") else path.read_bytes()
