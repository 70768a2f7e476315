"""`medscribe demo` and `medscribe sandbox`: the whole pipeline on a simulated world, and nothing real touched."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from medscribe_pipeline.cli import demo, runner
from medscribe_pipeline.cli.demo import MARK
from medscribe_pipeline.sandbox import MARKERS, Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable

    from medscribe_pipeline.settings import Settings
    from tests.medscribe_pipeline.cli.conftest import Ran


def test_the_first_run_moves_everything_the_next_ones_only_what_changed(
    home: Path, medscribe: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = medscribe("demo", "--json")
    again = medscribe("demo", "--json")
    people = medscribe("demo")

    everything, news = first.json["run"], again.json["run"]
    assert (first.code, again.code, people.code) == (0, 0, 0)
    assert (everything["exit_code"], news["exit_code"]) == (0, 0)
    assert everything["failures"] == news["failures"] == []
    assert everything["sources"]["askara_audios"]["new"] > 50
    assert 0 < news["sources"]["askara_audios"]["new"] < 10
    assert 0 < news["sources"]["askara_audios"]["changed"] < 20
    assert 0 < news["stages"]["ehr_deliveries"]["delivered"] < everything["stages"]["ehr_deliveries"]["delivered"]
    for provider, before in first.json["status"]["providers"].items():
        after = again.json["status"]["providers"][provider]
        assert sum(after["landed"].values()) > sum(before["landed"].values())
        assert after["quarantined"] == before["quarantined"]

    assert "another day has passed: 2 edited notes" in people.words
    assert "already there and not sent again" in people.words
    assert all(command in people.words for command in ("make demo", "make ui", "make demo-fresh"))
    # The query it offers works as it is printed.
    query = next(line for line in people.out.splitlines() if "python3 -c" in line).strip().removeprefix("python3 ")
    answer = subprocess.check_output(f"{sys.executable} {query}", shell=True, text=True)  # noqa: S602 - as a person would
    assert "validated" in answer

    # So do the commands that look at what it left: they read the demo's settings in its folder.
    program = Path(sys.executable).with_name("medscribe")
    explain = next(line.strip() for line in people.out.splitlines() if " day " in line and f"&& {program}" in line)
    goes_there, _, command = explain.partition(f" && {program} ")
    monkeypatch.chdir(goes_there.removeprefix("cd "))
    told, standing = medscribe(*command.split()), medscribe("status")
    assert (told.code, standing.code) == (1, 0)
    assert "unreadable records that may be of this day" in told.words
    assert "<svg" in (home / "day.html").read_text(encoding="utf-8")
    assert "out of date" not in standing.words

    assert (home / "warehouse.sqlite").exists()
    said = "".join(ran.out + ran.err for ran in (first, again, people, told, standing))
    assert [marker for marker in MARKERS if marker in said] == []


def test_a_first_run_says_nothing_of_another_day(
    home: Path, medscribe: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert home
    monkeypatch.setattr(runner, "sync", lambda *_, **__: runner.SyncResult())

    ran = medscribe("demo")

    assert ran.code == 0
    assert ran.words.startswith("medscribe demo: four simulated scribe providers")
    assert "another day" not in ran.words


def test_a_home_no_demo_made_is_left_alone(home: Path, medscribe: Callable[..., Ran]) -> None:
    home.mkdir()
    (home / "warehouse.sqlite").write_text("a real one", encoding="utf-8")

    for flags in ((), ("--fresh",)):
        ran = medscribe("demo", *flags)

        assert (ran.code, ran.out) == (2, "")
        assert "MEDSCRIBE_HOME holds something that no demo made" in ran.err
        assert [path.name for path in home.iterdir()] == ["warehouse.sqlite"]
        assert (home / "warehouse.sqlite").read_text(encoding="utf-8") == "a real one"


@pytest.mark.parametrize("place", ["file", "/dev/null/home"])
def test_a_home_that_cannot_be_a_folder_is_a_wrong_setting(
    clean_environment: Path, medscribe: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (clean_environment / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("MEDSCRIBE_HOME", place)

    ran = medscribe("demo")

    assert (ran.code, ran.out) == (2, "")
    assert "MEDSCRIBE_HOME" in ran.err


def test_fresh_forgets_a_demos_folder_and_nothing_beside_it(
    home: Path, medscribe: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    home.mkdir()
    (home / MARK).write_text("", encoding="utf-8")
    (home / "earlier.sqlite").write_text("of an earlier demo", encoding="utf-8")
    (home.parent / "beside").write_text("keep", encoding="utf-8")
    monkeypatch.setattr(demo, "_sync_once", lambda *_, **__: 0)

    assert medscribe("demo", "--fresh").code == 0

    assert not (home / "earlier.sqlite").exists()
    assert (home / MARK).exists()
    assert (home.parent / "beside").exists()


def test_by_default_the_demo_lives_in_a_folder_of_its_own_where_one_stands(
    clean_environment: Path, medscribe: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "_sync_once", lambda *_, **__: 0)

    assert medscribe("demo").code == 0

    assert (clean_environment / ".medscribe-demo" / MARK).exists()


@pytest.mark.parametrize("fails", [False, True])
def test_no_setting_of_a_real_account_gets_in_and_everything_is_put_back(
    home: Path, medscribe: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, *, fails: bool
) -> None:
    inside: dict[str, object] = {}

    def look(settings: Settings, *_: object, **__: object) -> int:
        token = settings.audioscribe.token
        inside.update(os.environ, cwd=Path.cwd(), settings=settings, token=token and token.get_secret_value())
        if fails:
            raise KeyboardInterrupt
        return 0

    monkeypatch.setenv("MEDSCRIBE_ASKARA_TOKEN", "canary-token")
    monkeypatch.setenv("MEDSCRIBE_ACCOUNT", "canary-account")
    monkeypatch.setenv("MEDSCRIBE_WAREHOUSE_URL", "sqlite:////canary/warehouse")
    Path(".env").write_text("MEDSCRIBE_AUDIOSCRIBE_TOKEN=canary\nMEDSCRIBE_FIRST_DAY=1999-01-01\n", encoding="utf-8")
    monkeypatch.setattr(demo, "_sync_once", look)
    before, folder = dict(os.environ), Path.cwd()

    assert medscribe("demo").code == (130 if fails else 0)

    assert "canary" not in " ".join(str(value) for name, value in inside.items() if name.startswith("MEDSCRIBE_"))
    assert "1999" not in repr(inside["settings"])
    assert "canary" not in str(inside["token"])
    assert inside["cwd"] == home
    assert (dict(os.environ), Path.cwd()) == (before, folder)


def test_only_one_demo_at_a_time_plays_with_a_home(
    home: Path, medscribe: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    nested: list[Ran] = []

    def again(*_: object, **__: object) -> int:
        nested.append(medscribe("demo"))
        return 0

    monkeypatch.setattr(demo, "_sync_once", again)

    assert medscribe("demo").code == 0
    assert home.exists()
    assert [ran.code for ran in nested] == [1]
    assert "Another sandbox is running" in nested[0].err


def test_a_demo_of_another_version_says_how_to_start_anew(
    home: Path, medscribe: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "_sync_once", lambda *_, **__: 0)
    assert medscribe("demo").code == 0
    with sqlite3.connect(home / "sandbox.sqlite") as state:
        state.execute("PRAGMA user_version = 1")
    state.close()

    ran = medscribe("demo")

    assert (ran.code, ran.out) == (2, "")
    assert "medscribe demo --fresh" in ran.err
    assert medscribe("demo", "--fresh").code == 0


def test_the_sandbox_tells_a_program_when_it_is_ready_and_ends_on_ctrl_c(tmp_path: Path) -> None:
    sandbox = subprocess.Popen(
        [Path(sys.executable).with_name("medscribe"), "sandbox", "--json", "--ready-file", tmp_path / "ready.json"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert sandbox.stdout is not None
    try:
        ready = json.loads(sandbox.stdout.readline())
        request = urllib.request.Request(  # noqa: S310 - loopback, as the sandbox says
            f"{ready['environment']['MEDSCRIBE_EHR_BASE_URL']}/metadata"
        )
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - the same
            kind = json.load(answer)["resourceType"]
        written = json.loads((tmp_path / "ready.json").read_text(encoding="utf-8"))
    finally:
        sandbox.send_signal(signal.SIGINT)
        out, err = sandbox.communicate(timeout=20)

    assert set(ready) == {"pid", "url", "environment"}
    assert ready["pid"] == sandbox.pid
    assert ready["url"].startswith("http://127.0.0.1:")
    assert ready["environment"] == written["environment"]
    assert kind == "CapabilityStatement"
    assert (sandbox.returncode, out, err) == (0, "", "")


def test_the_sandbox_tells_a_person_what_to_export(
    clean_environment: Path, medscribe: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert clean_environment

    def serve(sandbox: Sandbox, *, on_ready: Callable[[Sandbox], None], **_: object) -> None:
        with sandbox:
            on_ready(sandbox)

    monkeypatch.setattr(demo, "serve", serve)

    ran = medscribe("sandbox")

    assert ran.code == 0
    assert ran.out.count("export MEDSCRIBE_") == 11
    assert "loopback only" in ran.words


def test_a_port_that_is_taken_is_exit_code_2(clean_environment: Path, medscribe: Callable[..., Ran]) -> None:
    assert clean_environment
    with Sandbox() as running:
        ran = medscribe("sandbox", "--port", running.url.rpartition(":")[2])

    assert (ran.code, ran.out) == (2, "")
    assert "cannot listen on this port" in ran.err


def test_the_entry_point_is_installed() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("medscribe"), "--version"], capture_output=True, text=True, check=True
    )

    assert done.stdout.startswith("medscribe-pipeline ")
