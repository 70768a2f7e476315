"""A day as one HTML page: what it came to, what is missing and what to do, with pictures; counts and codes only.

The page is self-contained: no script, no external resource, and a policy in its head that lets a browser load none.
It is XHTML in HTML syntax, so it can be parsed either way. Whatever came from outside is escaped.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from html import escape
from importlib import resources
from typing import TYPE_CHECKING

from medscribe_pipeline.fhir.coverage import Treatment
from medscribe_pipeline.operation.bars import duration, histogram_svg, shares_svg
from medscribe_pipeline.operation.flow import flow_of, flow_svg
from medscribe_pipeline.operation.reasons import Act
from medscribe_pipeline.operation.verdict import commands_for, judge, thing, together

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from medscribe_pipeline.operation.day import DayReport
    from medscribe_pipeline.operation.delays import Delay
    from medscribe_pipeline.operation.verdict import Together, Verdict

__all__ = ["day_html", "delay_title"]

_ACTS = {Act.PERSON: ("person", "you"), Act.WAITS: ("waits", "waits")}

_DELAYS = {
    "visit_landed": "From the end of the visit until it had landed",
    "landed_note": "From landing until it was a note",
    "visit_validated": "From the end of the visit until a clinician validated it",
    "validated_delivered": "From validation until it was delivered",
    "visit_delivered": "From the end of the visit until it was delivered",
}

_TREATMENTS = (
    (Treatment.LOINC, "ok", "LOINC"),
    (Treatment.OWN_CODE, "lane0", "own code, LOINC has none"),
    (Treatment.UNKNOWN, "wait", "unknown to the mapping"),
    (Treatment.NO_KEY, "quiet", "no heading"),
)


def day_html(report: DayReport) -> str:
    """The page of a day."""
    verdict = judge(report)
    style = (resources.files("medscribe_pipeline.operation") / "day_page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    day = report.day.isoformat()
    body = "".join(
        [
            _head(report, verdict),
            _missing(report),
            _flows(report),
            _accounted(report),
            _delays(report.delays, report.targets),
            _streams(report),
            _jobs(report),
            _coverage(report),
        ]
    )
    return (
        '<!DOCTYPE html>\n<html xmlns="http://www.w3.org/1999/xhtml" lang="en" xml:lang="en">\n<head>'
        f'<meta charset="utf-8"/><meta http-equiv="Content-Security-Policy" content="{escape(policy)}"/>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
        '<meta name="referrer" content="no-referrer"/><meta name="robots" content="noindex"/>'
        f"<title>Visit day {day}</title><style>{style}</style></head>\n<body><main>{body}"
        f'<footer class="small">Counted {_time(report.read_at, report)}. Counts, codes and times only: no text and no '
        "identifier of a patient is on this page.</footer></main></body></html>\n"
    )


def delay_title(name: str, targets: Sequence[str]) -> str:
    """What a distribution is of; the target is named where there are several."""
    code, _, target = name.partition(":")
    return _DELAYS[code] + (f" to {target}" if target and len(targets) > 1 else "")


def _head(report: DayReport, verdict: Verdict) -> str:
    mood = "complete" if verdict.complete else "person" if verdict.needs_person else "waits"
    word = "Complete" if verdict.complete else "Not complete" if report.is_over else "Not over yet"
    numbers = [("records landed", report.landed), ("notes", report.notes)]
    numbers += [
        (f"delivered to {target}" if len(report.targets) > 1 else "notes delivered", report.delivered(target))
        for target in report.targets
    ]
    gaps = report.open_gaps()
    numbers += [
        ("need a person", sum(gap.count for gap in gaps if gap.act is Act.PERSON)),
        ("wait, nothing to do here", sum(gap.count for gap in gaps if gap.act is Act.WAITS)),
    ]
    return (
        f'<p class="kicker">Account {escape(report.account)} · {escape(report.timezone)}</p>'
        f"<h1>{report.day:%A}, {report.day.isoformat()}</h1>"
        f'<div class="verdict {mood}" role="status"><strong>{word}</strong><p>{_told(verdict.sentence)}</p>'
        '</div><ul class="numbers">'
        + "".join(f"<li><b>{count}</b>{escape(name)}</li>" for name, count in numbers)
        + "</ul>"
    )


def _missing(report: DayReport) -> str:
    rows = [
        [
            _cell(f'<span class="tag {_ACTS[each.gap.act][0]}">{_ACTS[each.gap.act][1]}</span>'),
            *_what(each),
            _cell(_sentence(each.gap.explained.to_do) + _commands(commands_for(each.gap, report.day))),
        ]
        for each in together(report.open_gaps(), report.targets)
    ]
    heads = ["who", "#count", "what", "why", "where", "what to do"]
    return _section("What is missing, why, and what to do", _table(heads, rows)) if rows else ""


def _flows(report: DayReport) -> str:
    figures = []
    for target in report.targets or (None,):
        flow = flow_of(report, target)
        whereto = f" to {target}" if target else ""
        drawing = flow_svg(flow, f"How the records of the day went from the providers{whereto}; the table has the same")
        if not drawing:
            continue
        rows = [
            [
                *(_cell(escape(each)) for each in (band.provider, band.source.label, band.target.label)),
                _number(band.count),
            ]
            for band in flow.bands
        ]
        table = _table(["provider", "from", "to", "#count"], rows)
        caption = f"Towards {escape(target)}. " if target and len(report.targets) > 1 else ""
        figures.append(
            f'<figure><div class="wide">{drawing}</div><figcaption>{caption}One band a provider, as wide as it has '
            "records or notes; a record can become several notes, or part of one.</figcaption></figure>"
            f"<details><summary>The same as a table</summary>{table}</details>"
        )
    return _section("How far everything came", "".join(figures)) if figures else ""


def _accounted(report: DayReport) -> str:
    closed = sorted((gap for gap in report.gaps if gap.act is Act.NOTHING), key=lambda gap: (-gap.count, gap.provider))
    rows = [_what(each) for each in together(closed, report.targets)]
    heads = ["#count", "what", "why", "where"]
    return _section("Accounted for: nothing more comes of it", _table(heads, rows)) if rows else ""


def _what(each: Together) -> list[str]:
    """Cells of how many of what, why, and where."""
    where = "<br/>".join(escape(line) for line in each.where)
    gap = each.gap
    return [_number(gap.count), _cell(escape(thing(gap))), _cell(_told(gap.explained.says)), _cell(where)]


def _delays(delays: Iterable[Delay], targets: Sequence[str]) -> str:
    figures = []
    for delay in delays:
        title = delay_title(delay.name, targets)
        told = (
            f"{delay.count} notes: half within {duration(delay.median)}, nine of ten within {duration(delay.p90)}, "
            f"the longest {duration(delay.longest)}."
        )
        if delay.backwards:
            told += f" {delay.backwards} seem to have taken less than nothing: clocks differ."
        figures.append(
            f"<figure><h3>{escape(title)}</h3>{histogram_svg(delay, f'{title}. {told}')}"
            f"<figcaption>{escape(told)}</figcaption></figure>"
        )
    if not figures:
        return ""
    note = '<p class="small">Each bar counts what took up to the time below it, and longer than the one before.</p>'
    return _section("How long it took", f'{note}<div class="charts">{"".join(figures)}</div>')


def _streams(report: DayReport) -> str:
    asked = {(each.provider, each.stream): each for each in report.asked}
    rows = []
    for each in report.streams:
        mark = '<span class="tag yes">yes</span>' if each.is_past else '<span class="tag waits">no</span>'
        until = _time(each.complete_until, report) if each.complete_until else "not known"
        row = [_cell(escape(f"{each.provider} {each.stream}")), _cell(mark), _cell(until)]
        row.append(_cell(_time(each.watermark, report) if each.watermark else "-"))
        if asked:
            row.append(_cell(escape(_own_count(report, each.provider, each.stream))))
        rows.append(row)
    if not rows:
        return ""
    heads = ["stream", "read since the day ended", "complete until", "newest record seen"]
    return _section("Was everything read?", _table([*heads, *(["the provider counts"] if asked else [])], rows))


def _own_count(report: DayReport, provider: str, stream: str) -> str:
    found = next((each for each in report.asked if (each.provider, each.stream) == (provider, stream)), None)
    if found is None or found.counted is None:
        return "cannot say" if found is None or found.code == "no_count" else f"did not say: {found.code}"
    counted = f"{'at least ' if found.at_least else ''}{found.counted}"
    return f"{counted}; {found.missing} of the {found.listed} it named are not here"


def _jobs(report: DayReport) -> str:
    rows = [
        [_cell(escape(day.provider)), _cell(escape(state)), _number(count)]
        for day in report.providers.values()
        for state, count in sorted(day.jobs.items())
    ]
    return _section("Jobs for visits of the day", _table(["provider", "state", "#count"], rows)) if rows else ""


def _coverage(report: DayReport) -> str:
    by_provider: dict[str, Counter[Treatment]] = {}
    shown = report.coverage.shown()
    for row in shown:
        by_provider.setdefault(row.provider, Counter())[row.codes.treatment] += row.sections
    rows = []
    for provider, counts in sorted(by_provider.items()):
        told = ", ".join(f"{counts[each]} {name}" for each, _, name in _TREATMENTS if counts[each])
        bar = shares_svg([(style, counts[each]) for each, style, _ in _TREATMENTS if counts[each]], told)
        rows.append([_cell(escape(provider)), _cell(bar), _number(counts.total()), _cell(escape(told))])
    if not rows:
        return ""
    key = "".join(f'<span><i class="{style}"></i>{escape(name)}</span>' for _, style, name in _TREATMENTS)
    unknown = [row for row in shown if row.codes.treatment is Treatment.UNKNOWN]
    names = ", ".join(sorted({f"<code>{escape(row.key or '-')}</code>" for row in unknown}))
    more = f"<p>Keys the mapping does not know: {names}.</p>" if names else ""
    table = _table(["provider", "sections by what the mapping makes of them", "#sections", "in numbers"], rows)
    return _section("Section coverage", f'<p class="key small">{key}</p>{table}{more}')


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Heads that begin with # are over numbers."""
    head = "".join(
        f'<th scope="col" class="n">{escape(name[1:])}</th>'
        if name[0] == "#"
        else f'<th scope="col">{escape(name)}</th>'
        for name in heads
    )
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(content: str) -> str:
    return f"<td>{content}</td>"


def _number(count: int) -> str:
    return f'<td class="n">{count}</td>'


def _commands(commands: Iterable[str]) -> str:
    return "".join(f"<br/><code>{escape(command)}</code>" for command in commands)


def _sentence(text: str) -> str:
    return f"{_told(text[:1].upper() + text[1:])}."


def _told(text: str) -> str:
    """Text with `commands` between backticks, as HTML."""
    return "".join(_spans(escape(text)))


def _spans(text: str) -> Iterator[str]:
    for number, part in enumerate(text.split("`")):
        yield f"<code>{part}</code>" if number % 2 else part


def _time(moment: datetime, report: DayReport) -> str:
    """Where the account is, to the minute; the offset says which of two equal times it is."""
    local = moment.astimezone(report.zone)
    return f'<time datetime="{moment.isoformat(timespec="seconds")}">{local:%Y-%m-%d %H:%M %z}</time>'
