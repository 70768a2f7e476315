from __future__ import annotations

import csv
import io
import time
from dataclasses import astuple
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.visits import COLUMNS, KNOWN_PROVIDERS, MAX_LENGTHS, VisitRow, read_visits
from medscribe_pipeline.warehouse import tables

if TYPE_CHECKING:
    from pathlib import Path

PARIS = ZoneInfo("Europe/Paris")
SECRET = "qxpatient"


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return tmp_path / "visits.csv"


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def problems_of(path: Path) -> list[str]:
    """The problems the file is refused for; the header line is a comma-separated one of known columns."""
    with pytest.raises(ConfigError) as caught:
        read_visits(path, zone=PARIS)
    assert caught.value.code == "visits_file"
    assert caught.value.exit_code == 2
    assert caught.value.context["file"] == path.name
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    return [line.strip() for line in caught.value.message.splitlines()[1:]]


def test_columns_and_lengths_are_those_of_the_table() -> None:
    columns = [
        column for column in tables.visits.columns if column.name not in {"account", "imported_at", "forgotten_at"}
    ]
    assert [column.name for column in columns] == list(COLUMNS)
    lengths = {column.name: column.type.length for column in columns if isinstance(column.type, sa.String)}
    limited = {name: length for name, length in lengths.items() if length is not None}
    assert limited == {name: length for name, length in MAX_LENGTHS.items() if name in limited}
    assert lengths.keys() - limited.keys() == {"audio_url", "audio_path"}
    assert len(limited) == 13


def test_full_row(manifest: Path) -> None:
    write(
        manifest,
        "provider,correlation_key,patient_id,patient_system,practitioner_id,practitioner_system,encounter_id,"
        "encounter_system,started_at,ended_at,language,template,audio_url,section_style,split_by_problem,diarization,"
        "category\n"
        "askara,a-1,P1,urn:oid:1.2.3,D1,https://ward.example/doc,E1,https://ward.example/enc,"
        "2026-03-02T09:30:00+01:00,2026-03-02T10:00,fr-FR,SOAP,https://ward.example/a/1.wav?sig=x%2Fy,bullet_points,"
        "Oui,no,telehealth\n",
    )
    assert read_visits(manifest, zone=PARIS) == [
        VisitRow(
            provider="askara",
            correlation_key="a-1",
            patient_id="P1",
            patient_system="urn:oid:1.2.3",
            practitioner_id="D1",
            practitioner_system="https://ward.example/doc",
            encounter_id="E1",
            encounter_system="https://ward.example/enc",
            started_at=datetime(2026, 3, 2, 8, 30, tzinfo=UTC),
            ended_at=datetime(2026, 3, 2, 9, 0, tzinfo=UTC),
            language="fr-FR",
            template="SOAP",
            audio_url="https://ward.example/a/1.wav?sig=x%2Fy",
            section_style="bullet_points",
            split_by_problem=True,
            diarization=False,
            category="telehealth",
        )
    ]


@pytest.mark.parametrize("column", ["split_by_problem", "diarization"])
@pytest.mark.parametrize(
    ("written", "value"),
    [
        *((word, True) for word in ("true", "TRUE", "Yes", "1", " oui ")),
        *((word, False) for word in ("false", "False", "NO", "0", "non")),
        ("", None),
    ],
)
def test_switches(manifest: Path, column: str, written: str, value: bool | None) -> None:
    write(manifest, f"provider,correlation_key,{column}\nnabla,1,{written}\n")
    (row,) = read_visits(manifest, zone=PARIS)
    assert getattr(row, column) is value


@pytest.mark.parametrize("path", ["/data/audio/1 of 2.wav", "visites/été.m4a", "C:\\audio\\1.wav"])
def test_an_audio_path_is_taken_as_it_is(manifest: Path, path: str) -> None:
    write(manifest, f"provider,correlation_key,audio_path\nintron,1,{path}\n")
    assert [row.audio_path for row in read_visits(manifest, zone=PARIS)] == [path]


def test_a_recording_is_in_one_place(manifest: Path) -> None:
    write(manifest, "provider,correlation_key,audio_url,audio_path\nintron,1,https://ward.example/1.wav,1.wav\n")
    assert problems_of(manifest) == [
        "line 2, column audio_path: is given beside audio_url; a recording is in one place"
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_dialects(manifest: Path, delimiter: str, end: str, mark: str) -> None:
    rows = [
        ["Patient_ID ", "correlation_key", "PROVIDER"],
        [" P,1;é ", "k\nk", "Askara"],
        ["", "k2", "nabla"],
        ["", "", ""],
    ]
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL).writerows(rows)
    write(manifest, mark + end + text.getvalue() + end + end)
    assert read_visits(manifest, zone=PARIS) == [
        VisitRow(provider="askara", correlation_key="k\nk", patient_id="P,1;é"),
        VisitRow(provider="nabla", correlation_key="k2"),
    ]


@pytest.mark.parametrize(
    ("written", "instant"),
    [
        ("2026-03-02T09:30", "2026-03-02T08:30:00+00:00"),
        ("2026-07-02 09:30:15", "2026-07-02T07:30:15+00:00"),
        ("2026-03-02T09:30:15.25Z", "2026-03-02T09:30:15.250000+00:00"),
        ("2026-03-02t09:30z", "2026-03-02T09:30:00+00:00"),
        ("2026-03-02T09:30:00-0530", "2026-03-02T15:00:00+00:00"),
        # The clocks jump from 02:00 to 03:00: the offset from before, so 03:30 summer time.
        ("2026-03-29T02:30", "2026-03-29T01:30:00+00:00"),
        # The clocks go through 02:30 twice: the first, summer time.
        ("2026-10-25T02:30", "2026-10-25T00:30:00+00:00"),
    ],
)
def test_times(manifest: Path, written: str, instant: str) -> None:
    write(manifest, f"provider,correlation_key,started_at\nnabla,1,{written}\n")
    (row,) = read_visits(manifest, zone=PARIS)
    assert row.started_at is not None
    assert row.started_at.isoformat() == instant
    assert row.started_at.tzinfo is UTC


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("provider", "", "is empty"),
        ("provider", SECRET, "is none of askara, audioscribe, nabla, intron"),
        ("correlation_key", " ", "is empty"),
        ("correlation_key", SECRET * 29, "is longer than 255 characters"),
        ("patient_id", SECRET * 29, "is longer than 255 characters"),
        ("patient_id", f"{SECRET}\x00", "has a NUL character (is the file UTF-16? save it as UTF-8)"),
        ("template", SECRET * 8, "is longer than 64 characters"),
        ("language", f"{SECRET}!", "is not a language tag such as en or fr-FR"),
        ("language", "fr_FR", "is not a language tag such as en or fr-FR"),
        *(
            (column, value, "is not an absolute URI such as https://hospital.example/mrn or urn:oid:1.2.3")
            for column in ("patient_system", "practitioner_system", "encounter_system")
            for value in (SECRET, "//ward.example/x", "https://ward example", "C:\\x", "urn:")
        ),
        ("audio_url", f"https://ward.example/{SECRET * 500}", "is longer than 4096 characters"),
        ("audio_path", SECRET * 500, "is longer than 4096 characters"),
        *(
            ("audio_url", value, "is not a URL such as https://recordings.hospital.example/1.wav")
            for value in (
                f"ftp://ward.example/{SECRET}",
                f"/audio/{SECRET}.wav",
                "https:///1.wav",
                "https://",
                f"https://ward.example/a {SECRET}.wav",
                f"https://{SECRET}:word@ward.example/1.wav",
                f"file:///{SECRET}",
            )
        ),
        *(
            (column, value, "is not one word of letters, digits, _ and -")
            for column in ("section_style", "category")
            for value in (f"{SECRET} x", f"{SECRET};", "_", "é")
        ),
        *(
            (column, value, "is neither yes (true, yes, 1, oui) nor no (false, no, 0, non)")
            for column in ("split_by_problem", "diarization")
            for value in (SECRET, "y", "2", "vrai")
        ),
        *(
            (column, value, "is not an ISO 8601 time such as 2026-03-02T09:30 or 2026-03-02T09:30:00+01:00")
            for column in ("started_at", "ended_at")
            for value in (SECRET, "2026-03-02", "02/03/2026 09:30", "20260302T0930", "1772440200", "٢٠٢٦-03-02T09:30")
        ),
        ("started_at", "2026-02-30T09:30", "is not a time there is"),
        ("started_at", "2026-03-02T09:30+99:00", "is not a time there is"),
        ("started_at", "0001-01-01T00:00+14:00", "is not a time there is"),
    ],
)
def test_wrong_value(manifest: Path, column: str, value: str, problem: str) -> None:
    cells = {"provider": "askara", "correlation_key": "k", column: value}
    text = io.StringIO()
    csv.writer(text).writerows([cells.keys(), cells.values()])
    write(manifest, text.getvalue())
    assert problems_of(manifest) == [f"line 2, column {column}: {problem}"]


def test_end_before_start(manifest: Path) -> None:
    write(
        manifest,
        "provider,correlation_key,started_at,ended_at\n"
        "nabla,1,2026-03-02T09:30,2026-03-02T09:30\n"
        "nabla,2,2026-03-02T09:30,2026-03-02T09:30+02:00\n",
    )
    assert problems_of(manifest) == ["line 3, column ended_at: is before started_at"]


def test_the_same_recording_twice_names_both_lines(manifest: Path) -> None:
    write(manifest, 'correlation_key,provider\n"a\nb",nabla\nk,nabla\nk,askara\n\n k ,NABLA\n')
    assert problems_of(manifest) == ["line 7, column correlation_key: is the same recording as on line 4"]


def test_a_row_with_another_problem_still_counts_for_duplicates(manifest: Path) -> None:
    write(manifest, "correlation_key,provider,language\nk,nabla,?\nk,nabla,en\n")
    assert problems_of(manifest) == [
        "line 2, column language: is not a language tag such as en or fr-FR",
        "line 3, column correlation_key: is the same recording as on line 2",
    ]


def test_all_problems_are_counted_and_twenty_are_listed(manifest: Path) -> None:
    write(manifest, "provider,correlation_key\n" + f"{SECRET},\n" * 15)
    problems = problems_of(manifest)
    assert problems[:2] == [
        "line 2, column provider: is none of askara, audioscribe, nabla, intron",
        "line 2, column correlation_key: is empty",
    ]
    assert len(problems) == 21
    assert problems[-1] == "and 10 more"


def test_rows_of_another_width(manifest: Path) -> None:
    write(manifest, f"provider,correlation_key\nnabla,1,{SECRET}\nnabla\n")
    assert problems_of(manifest) == [
        "line 2: number of cells is 3, the header has 2",
        "line 3: number of cells is 1, the header has 2",
    ]


@pytest.mark.parametrize(
    ("header", "problems"),
    [
        (
            "provider,correlation_key,PatientId,startet_at,zz",
            [
                "line 1, column 3: is not a known column; the nearest is patient_id",
                "line 1, column 4: is not a known column; the nearest is started_at",
                "line 1, column 5: is not a known column; the nearest is ",
            ],
        ),
        ("provider,correlation_key,", ["line 1, column 3: has no name"]),
        ("provider;language", ["line 1, column correlation_key: is missing"]),
        ("provider;correlation_key;provider", ["line 1, column provider: is there twice"]),
        (f"nabla,{SECRET}", ["line 1: is no header; it must name columns out of provider, correlation_key, "]),
        ('"provider,correlation_key', ["line 1: is no header; it must name columns out of provider, "]),
        ("provider|correlation_key", ["line 1: is no header; it must name columns out of provider, "]),
    ],
)
def test_wrong_header(manifest: Path, header: str, problems: list[str]) -> None:
    write(manifest, f"{header}\nnabla,{SECRET},\n")
    found = problems_of(manifest)
    assert len(found) == len(problems)
    for actual, expected in zip(found, problems, strict=True):
        assert actual.startswith(expected)


def test_a_quote_never_closed(manifest: Path) -> None:
    write(manifest, f'provider,correlation_key\nnabla,1\nnabla,"{SECRET}\nnabla,2\n')
    assert problems_of(manifest) == ['line 3: a cell beginning with " is not closed by one, or is too long']


def test_other_encodings_name_the_line(manifest: Path) -> None:
    text = "provider;correlation_key;patient_id\nnabla;1;ok\nnabla;2;qxpatienté\n"
    manifest.write_bytes(text.encode("cp1252"))
    assert problems_of(manifest) == ["line 3, column patient_id: is not UTF-8 (save the file as UTF-8)"]
    manifest.write_bytes(text.encode("utf-16"))
    assert problems_of(manifest)[0].startswith("line 1: ")
    manifest.write_bytes(text.encode("utf-16-le"))
    assert problems_of(manifest) == ["line 1: has a NUL character (is the file UTF-16? save it as UTF-8)"]


def test_a_line_without_end(manifest: Path) -> None:
    write(manifest, "provider,correlation_key\nnabla," + "x" * 1_100_000)
    assert problems_of(manifest) == ["line 2: is longer than 1000000 characters"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "The visits file is empty."),
        (b"\xef\xbb\xbf\r\n \n", "The visits file is empty."),
        (b"provider,correlation_key\n", "The visits file has a header and no rows."),
        (b"provider,correlation_key\n,\n", "The visits file has a header and no rows."),
    ],
)
def test_nothing_to_read(manifest: Path, content: bytes, message: str) -> None:
    manifest.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_visits(manifest, zone=PARIS)
    assert (caught.value.message, caught.value.code) == (message, "visits_file")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path, message in [
        (tmp_path / "absent.csv", "does not exist"),
        (tmp_path, "is a directory"),
        (tmp_path / ("x" * 300), "cannot be read"),
    ]:
        with pytest.raises(ConfigError, match=message) as caught:
            read_visits(path, zone=PARIS)
        assert caught.value.code == "visits_file"


def test_known_providers_are_an_argument(manifest: Path) -> None:
    write(manifest, "provider,correlation_key\nother,1\n")
    assert read_visits(manifest, zone=PARIS, known_providers=["other"]) == [VisitRow("other", "1")]


def test_a_hundred_thousand_rows(manifest: Path) -> None:
    write(
        manifest,
        "provider,correlation_key,patient_id,patient_system,started_at\n"
        + "".join(f"askara,k{n},P{n},https://ward.example/mrn,2026-03-02T09:30\n" for n in range(100_000)),
    )
    began = time.process_time()
    rows = read_visits(manifest, zone=PARIS)
    assert time.process_time() - began < 20
    assert len(rows) == 100_000
    assert rows[-1].correlation_key == "k99999"


cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20).map(str.strip)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.sampled_from(KNOWN_PROVIDERS), cells.filter(bool), cells),
        min_size=1,
        max_size=5,
        unique_by=lambda row: row[:2],
    ),
    delimiter=st.sampled_from(",;\t"),
)
def test_what_is_written_is_read(
    rows: list[tuple[str, str, str]], delimiter: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writerows([("provider", "correlation_key", "patient_id"), *rows])
    path = write(tmp_path_factory.mktemp("visits") / "visits.csv", text.getvalue())
    assert [astuple(row)[:3] for row in read_visits(path, zone=PARIS)] == [(*row[:2], row[2] or None) for row in rows]


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=200), with_header=st.booleans())
def test_any_bytes_give_rows_or_a_clear_error(
    content: bytes, with_header: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("visits") / "visits.csv"
    path.write_bytes(b"provider,correlation_key\n" * with_header + content)
    try:
        outcome = "rows" if read_visits(path, zone=PARIS) else "no rows"
    except ConfigError as error:
        outcome = error.code
    assert outcome in {"rows", "visits_file"}
