"""The page of a day: well-formed, self-contained, with drawings that add up, and nobody's name in it."""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medscribe_pipeline.operation.bars import duration, histogram_svg, shares_svg
from medscribe_pipeline.operation.day import DayReport, Gap, ProviderDay, StreamDay
from medscribe_pipeline.operation.day_page import day_html
from medscribe_pipeline.operation.delays import STEPS, delay_of
from medscribe_pipeline.operation.flow import GAP, flow_of, flow_svg, place
from medscribe_pipeline.operation.reasons import Kind
from medscribe_pipeline.providers.own_counts import OwnCount

DAY = date(2026, 3, 2)
START = datetime(2026, 3, 1, 23, tzinfo=UTC)
XHTML = "{http://www.w3.org/1999/xhtml}"


def report(**changes: object) -> DayReport:
    made = DayReport(
        "default", DAY, "Europe/Paris", START, START + timedelta(days=1), START + timedelta(days=2), ("ehr",)
    )
    made.providers = {
        "askara": ProviderDay(
            "askara",
            landed=9,
            records=Counter(note=5, part=2, held=1, quarantined=1),
            notes=Counter(validated=4, draft=1),
            documents=Counter(documents=4, waiting=1),
            deliveries={"ehr": Counter(delivered=2, held=1, planned=1)},
        ),
        "nabla": ProviderDay(
            "nabla",
            landed=1,
            records=Counter(note=1),
            notes=Counter(draft=2),
            documents=Counter(documents=2),
            deliveries={"ehr": Counter(held=2)},
            jobs=Counter(fetched=1),
        ),
    }
    made.gaps = [
        Gap(Kind.HELD, "not_validated", "askara", 1, "ehr"),
        Gap(Kind.HELD, "not_validated", "nabla", 2, "ehr"),
        Gap(Kind.JOB_STOPPED, "<b>odd & bad", "nabla", 1),
        Gap(Kind.RECORD, "empty_note", "askara", 1),
    ]
    made.streams = [StreamDay("askara", "notes", START, None, is_past=False)]
    delay = delay_of("visit_delivered:ehr", [30, 4000, -5])
    made.delays = [delay] if delay else []
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def parsed(page: str) -> ET.Element:
    assert page.startswith("<!DOCTYPE html>\n")
    return ET.fromstring(page.removeprefix("<!DOCTYPE html>\n"))  # noqa: S314 - our own page


def words(element: ET.Element) -> str:
    return " ".join(" ".join(element.itertext()).split())


@pytest.fixture
def page() -> ET.Element:
    return parsed(day_html(report()))


# The page


def test_the_verdict_stands_on_top(page: ET.Element) -> None:
    main = page.find(f"{XHTML}body/{XHTML}main")
    assert main is not None
    heading, banner = main[1], main[2]

    assert words(heading) == "Monday, 2026-03-02"
    assert banner.get("class") == "verdict person"
    assert words(banner).startswith("Not complete 2026-03-02 is not complete: 1 job without a result")
    assert "medscribe jobs retry ID" in words(banner)


def test_every_section_is_there_and_says_what_the_data_says(page: ET.Element) -> None:
    headings = [words(each) for each in page.iter(f"{XHTML}h2")]

    assert headings == [
        "What is missing, why, and what to do",
        "How far everything came",
        "Accounted for: nothing more comes of it",
        "How long it took",
        "Was everything read?",
        "Jobs for visits of the day",
    ]
    told = words(page)
    assert "3 notes held no clinician has validated it yet nabla 2 askara 1" in told
    assert "1 record without a note the note is empty askara" in told
    assert "3 notes: half within 30 s, nine of ten within 1 h 6 min, the longest 1 h 6 min." in told
    assert "1 seem to have taken less than nothing: clocks differ." in told
    assert "askara notes no 2026-03-02 00:00 +0100" in told


def test_nothing_is_loaded_and_nothing_runs() -> None:
    page = day_html(report())

    assert not re.findall(r"<(script|link|img|iframe|object)\b|\bon[a-z]+=|style=|url\(|@import|href=", page)
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = parsed(page).find(f".//{XHTML}meta[@http-equiv='Content-Security-Policy']")
    assert policy is not None
    assert policy.get("content") == (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


def test_what_came_from_outside_is_no_markup() -> None:
    odd = report(account="<i>", gaps=[Gap(Kind.QUARANTINED, "<b>x", "<script>", 1)])

    page = parsed(day_html(odd))

    assert page.find(f".//{XHTML}script") is None
    assert page.find(f".//{XHTML}b[.='x']") is None
    assert "a reason we cannot show" in words(page)


def test_a_complete_day_says_so_and_lists_nothing_missing() -> None:
    page = parsed(day_html(report(gaps=[], streams=[])))

    banner = page.find(f".//{XHTML}div[@class='verdict complete']")
    assert banner is not None
    assert words(banner).startswith("Complete 2026-03-02 is complete: 10 records landed, 7 notes")
    assert "What is missing" not in words(page)


def test_an_empty_day_has_a_page_without_drawings() -> None:
    page = parsed(day_html(report(providers={}, gaps=[], streams=[], delays=[])))

    assert [words(each) for each in page.iter(f"{XHTML}h2")] == []
    assert list(page.iter("{http://www.w3.org/2000/svg}svg")) == []


def test_several_targets_have_a_drawing_each() -> None:
    page = parsed(day_html(report(targets=("ehr", "store"))))

    captions = [words(each) for each in page.iter(f"{XHTML}figcaption")]
    assert [caption.split(".")[0] for caption in captions[:2]] == ["Towards ehr", "Towards store"]
    assert "ehr 1" in words(page)


@pytest.mark.parametrize(
    ("count", "told"),
    [
        (OwnCount("askara", "notes", 7, listed=7, missing=2), "7; 2 of the 7 it named are not here"),
        (OwnCount("askara", "notes", 100, at_least=True, listed=100), "at least 100; 0 of the 100 it named"),
        (OwnCount("askara", "notes", code="no_count"), "cannot say"),
        (OwnCount("askara", "notes", code="timeout"), "did not say: timeout"),
    ],
)
def test_what_the_provider_counts_stands_beside_its_stream(count: OwnCount, told: str) -> None:
    assert told in words(parsed(day_html(report(asked=[count]))))


def test_every_drawing_has_a_title_and_a_table_or_a_caption_with_the_same(page: ET.Element) -> None:
    svg = "{http://www.w3.org/2000/svg}"
    drawings = list(page.iter(f"{svg}svg"))

    assert drawings
    for drawing in drawings:
        assert drawing.get("role") == "img"
        assert drawing[0].tag == f"{svg}title"
        assert words(drawing[0])


# The flow


def test_the_flow_adds_up() -> None:
    flow = flow_of(report(), "ehr")
    counts = {(band.provider, band.source.name, band.target.name): band.count for band in flow.bands}

    assert counts == {
        ("askara", "askara", "note"): 5,
        ("askara", "askara", "part"): 2,
        ("askara", "askara", "held"): 1,
        ("askara", "askara", "quarantined"): 1,
        ("askara", "note", "documents"): 4,
        ("askara", "note", "waiting"): 1,
        ("askara", "documents", "delivered"): 2,
        ("askara", "documents", "held"): 1,
        ("askara", "documents", "on_its_way"): 1,
        ("nabla", "nabla", "note"): 1,
        ("nabla", "note", "documents"): 2,
        ("nabla", "documents", "held"): 2,
    }
    through = {(node.column, node.name): flow.through(node) for node in flow.nodes}
    assert through[1, "note"] == 7  # one record of Nabla became two notes
    assert through[2, "documents"] == 6


def test_without_a_target_the_flow_ends_at_the_documents() -> None:
    assert {node.column for node in flow_of(report(), None).nodes} == {0, 1, 2}


counts = st.integers(0, 5000)


@st.composite
def days(draw: st.DrawFn) -> dict[str, ProviderDay]:
    names = draw(st.lists(st.sampled_from(["askara", "audioscribe", "nabla", "intron", "a", "b", "c"]), unique=True))
    found = {}
    for name in names:
        records = Counter({each: draw(counts) for each in ("note", "part", "held", "waiting", "quarantined")})
        documents = Counter({each: draw(counts) for each in ("documents", "waiting", "quarantined")})
        states = Counter({each: draw(counts) for each in ("delivered", "held", "rejected", "unknown", "sent")})
        found[name] = ProviderDay(name, records.total(), records, Counter(), documents, {"ehr": states})
    return found


@settings(max_examples=40, deadline=None)
@given(providers=days())
def test_whatever_the_day_nodes_do_not_overlap_and_bands_stay_within_them(providers: dict[str, ProviderDay]) -> None:
    flow = flow_of(report(providers=providers), "ehr")

    placed, unit = place(flow)

    for column in range(4):
        nodes = sorted((each for each in placed if each.node.column == column), key=lambda each: each.y)
        for before, after in pairwise(nodes):
            assert after.y >= before.y + before.height
            assert after.y - before.y >= GAP - 1e-6  # room for a label
    for each in placed:
        into = sum(band.count for band in flow.bands if band.target == each.node)
        assert into * unit <= each.height + 1e-6
    drawing = flow_svg(flow, "A title")
    assert (drawing == "") == (not flow.bands)
    if drawing:
        assert len(list(ET.fromstring(drawing))) > len(placed)  # noqa: S314 - our own drawing


# Delays


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e6, 1e8, allow_nan=False), min_size=1, max_size=50))
def test_whatever_was_measured_is_in_one_step_and_quantiles_were_seen(seconds: list[float]) -> None:
    delay = delay_of("x", seconds)

    assert delay is not None
    assert sum(delay.histogram) == delay.count == len(seconds)
    clipped = [max(0.0, each) for each in seconds]
    assert {delay.median, delay.p90, delay.longest} <= set(clipped)
    assert delay.median <= delay.p90 <= delay.longest == max(clipped)
    assert sum(each <= delay.median for each in clipped) * 2 >= len(seconds)
    bars = list(ET.fromstring(histogram_svg(delay, "T")).iter("{http://www.w3.org/2000/svg}rect"))  # noqa: S314 - ours
    assert len(bars) == sum(1 for count in delay.histogram if count)


def test_nothing_measured_is_no_distribution() -> None:
    assert delay_of("x", []) is None


def test_steps_rise_to_the_end_of_time() -> None:
    bounds = [bound for _, bound in STEPS]

    assert bounds == sorted(set(bounds))
    assert bounds[-1] == float("inf")


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0, "0 s"), (59.4, "59 s"), (60, "1 min"), (3599, "59 min"), (3600, "1 h"), (86_400, "1 d"), (93_600, "1 d 2 h")],
)
def test_durations_are_told_in_two_units(seconds: float, told: str) -> None:
    assert duration(seconds) == told


def test_shares_fill_their_bar() -> None:
    drawn = ET.fromstring(shares_svg([("ok", 3), ("wait", 1)], "T"))  # noqa: S314 - our own drawing

    widths = [float(each.get("width", "0")) for each in drawn.iter("{http://www.w3.org/2000/svg}rect")]
    assert widths == [315.0, 105.0]
    assert shares_svg([], "T") == ""
