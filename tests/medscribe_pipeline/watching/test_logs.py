"""Lines of ours with their facts, as text and as JSON; lines of libraries without their words."""

from __future__ import annotations

import json
import logging
import sys
from typing import TYPE_CHECKING, Any, Literal

import httpx
import pytest
import sqlalchemy as sa

from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.sandbox import MARKERS
from medscribe_pipeline.watching import bound, logs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

log = logging.getLogger("medscribe_pipeline.tested")
CANARY = MARKERS[0]


@pytest.fixture(autouse=True)
def _levels() -> Iterator[None]:
    """Libraries are told to tell everything, and told to stop after the test."""
    names = ["", "httpx", "httpcore", "sqlalchemy.engine.Engine", "alembic", "dagster", "urllib3", "filelock"]
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.DEBUG)
    yield
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture
def written(capsys: pytest.CaptureFixture[str]) -> Callable[..., list[Any]]:
    def read() -> list[Any]:
        return [json.loads(line) for line in capsys.readouterr().err.splitlines()]

    logs.start("json", "debug")
    return read


def test_a_line_has_its_words_and_its_facts(written: Callable[..., list[Any]]) -> None:
    with bound(run="r1", provider="askara", stream="audios"):
        log.info("Stream pulled: pages=%d waited_s=%.3f code=%s", 3, 0.25, None)

    (line,) = written()

    assert line.pop("at").endswith("+00:00")
    assert line == {
        "level": "info",
        "logger": "medscribe_pipeline.tested",
        "event": "Stream pulled",
        "run": "r1",
        "provider": "askara",
        "stream": "audios",
        "pages": 3,
        "waited_s": 0.25,
    }


def test_as_text_it_is_one_line_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    logs.start("text", "info")

    with bound(run="r1"):
        log.warning("Event waits: provider=%s code=%s", "nabla", "unreachable")
        log.info("Nothing else")

    first, second = capsys.readouterr().err.splitlines()
    assert first.split(" ", 1)[1] == "WARNING Event waits: run=r1 provider=nabla code=unreachable"
    assert second.split(" ", 1)[1] == "INFO    Nothing else: run=r1"


@pytest.mark.parametrize("form", ["text", "json"])
def test_only_lines_of_the_level_are_written(form: Literal["text", "json"], capsys: pytest.CaptureFixture[str]) -> None:
    logs.start(form, "warning")

    log.info("Trying again: client=%s", "askara")
    log.warning("Event waits: provider=%s", "askara")
    logging.getLogger(logs.PROGRESS).error("3 pages")

    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("template", "values"),
    [
        (f"Cannot read {CANARY}: name=%s", (CANARY,)),
        ("Cannot read %s", (CANARY,)),
        ("Read: provider=%s", (f"{CANARY} Patient",)),
        ("Read: patient=%s", (CANARY,)),
        (f"run-1 - Read: provider={CANARY}", ()),
        ("Read: provider=%(provider)s", ({"provider": CANARY},)),
        (ValueError(CANARY), ()),
    ],
)
def test_what_is_not_of_our_form_is_withheld(
    template: Any, values: tuple[Any, ...], written: Callable[..., list[Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    log.error(template, *values)

    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert CANARY not in told
    assert written() == []


def test_of_an_exception_type_code_and_place_are_told(written: Callable[..., list[Any]]) -> None:
    def fail() -> None:
        raise ConfigError(CANARY, code="warehouse_url") from KeyError(CANARY)

    try:
        fail()
    except ConfigError:
        log.exception("The run failed: run=%s", "r1")

    (line,) = written()
    assert line["code"] == "warehouse_url"
    assert line["error"].startswith("ConfigError:test_logs.py:")
    assert CANARY not in json.dumps(line)


def test_of_libraries_only_is_told_that_there_was_a_warning(written: Callable[..., list[Any]]) -> None:
    for name in ("httpx", "httpcore.http11", "urllib3.connectionpool", "sqlalchemy.engine.Engine", "dagster", "root"):
        library = logging.getLogger(name)
        for level in (logging.DEBUG, logging.INFO):
            library.log(level, "GET https://example.org/%s", CANARY)
    logging.getLogger("alembic").warning("Row %s is odd", CANARY, extra={"provider": CANARY})

    (line,) = written()

    assert line["event"] == logs.LIBRARY
    assert (line["logger"], line["library"]) == ("library", "alembic")
    assert line["place"].startswith("test_logs.py:")
    assert CANARY not in json.dumps(line)


def test_real_libraries_at_debug_level_write_nothing_of_what_they_handle(
    written: Callable[..., list[Any]], caplog: pytest.LogCaptureFixture
) -> None:
    engine = sa.create_engine("sqlite://", echo=False)
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT :name"), {"name": CANARY}).all()
    engine.dispose()
    with httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200))) as client:
        client.get(f"https://example.org/{CANARY}")

    # They did say it, to whoever listens without our handler.
    assert CANARY in caplog.text
    assert written() == []


def test_whoever_reads_may_go_away(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone:
        def write(self, _: str) -> None:
            raise BrokenPipeError

    logs.start("text", "info")
    monkeypatch.setattr(sys, "stderr", Gone())

    log.error("Nobody hears this")


def test_started_twice_a_line_is_written_once(capsys: pytest.CaptureFixture[str]) -> None:
    logs.start("text", "info")
    logs.start("json", "info")

    log.info("Once")

    assert json.loads(capsys.readouterr().err)["event"] == "Once"
    logs.stop()
    assert not logs.is_started()


def test_a_handler_that_fills_templates_in_comes_too_late(written: Callable[..., list[Any]]) -> None:
    class Filling(logging.Handler):
        """As Dagster's, which stores lines with their run."""

        def emit(self, record: logging.LogRecord) -> None:
            record.msg, record.args = f"run-1 - {record.getMessage()}", ()

    filling, ours = Filling(), logging.getLogger("medscribe_pipeline")
    ours.addHandler(filling)
    try:
        log.info("Read: provider=%s", f"{CANARY} Patient")
    finally:
        ours.removeHandler(filling)

    (line,) = written()
    assert (line["event"], line["provider"]) == ("Read", "?")
