"""`medscribe jobs`: what providers were asked for, how far it is, and what a person can do about it.

Nothing here shows whom a job is about: neither its key, which holds the visit's, nor its request.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medscribe_pipeline.cli.options import Day, Json, local_day
from medscribe_pipeline.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from medscribe_pipeline.operation.reasons import Explained
    from medscribe_pipeline.providers.jobs import State
    from medscribe_pipeline.providers.jobs.by_hand import Found, JobRow, WhichJobs
    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["jobs_app"]

jobs_app = typer.Typer(help="What providers were asked to transcribe or write.", no_args_is_help=True)

Provider = Annotated[str | None, typer.Option(help="Only this provider.")]
StateNames = Annotated[
    list[str] | None, typer.Option("--state", help="Only what is in this state; may be given several times.")
]
Code = Annotated[str | None, typer.Option(help="Only what has this code.")]
Ids = Annotated[list[str] | None, typer.Argument(help="Ids of jobs, as `jobs list` shows them.")]
Id = Annotated[str, typer.Argument(help="Id of a job, as `jobs list` shows it.")]
Yes = Annotated[bool, typer.Option("--yes", help="Needed for more than one job.")]


@jobs_app.command("list")
def list_jobs(
    provider: Provider = None,
    state: StateNames = None,
    code: Code = None,
    day: Day = None,
    limit: Annotated[int, typer.Option(min=0, help="Most jobs to list; 0 for all.")] = 100,
    counts: Annotated[bool, typer.Option("--counts", help="Only how many there are of each kind.")] = False,
    as_json: Json = False,
) -> None:
    """List jobs, those wanted last first; how many there are of each step, state and code comes first."""
    from medscribe_pipeline.cli.output import console, print_json
    from medscribe_pipeline.providers.jobs import by_hand
    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

    settings = Settings.load()
    which = _which(settings, provider=provider, states=state, code=code, day=day)
    with Warehouse.open(settings) as warehouse:
        found = by_hand.counted(warehouse, which)
        rows = [] if counts else by_hand.listed(warehouse, which, limit=limit or None)
    total = sum(number for *_, number in found)
    if as_json:
        names = ("provider", "step", "state", "code", "jobs")
        told: dict[str, Any] = {"counts": [dict(zip(names, each, strict=True)) for each in found]}
        if not counts:
            told |= {"jobs": [_json(row) for row in rows], "more": total > len(rows)}
        print_json(told)
        return
    if not found:
        console.print("There are no such jobs.", highlight=False)
        return
    _print_counts(found)
    if rows:
        console.print(f"{'id':<36} provider step state code since", highlight=False)
    for row in rows:
        since = row.settled_at or row.submitted_at or row.wanted_at
        line = f"{row.id} {row.provider} {row.step} {row.state.value} {row.code or '-'} {_time(since)}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if not counts and total > len(rows):
        console.print(f"{total - len(rows)} more: raise --limit, or narrow it down.", highlight=False)


@jobs_app.command()
def show(job: Id, as_json: Json = False) -> None:
    """Show one job, what its state means and what can be done."""
    from medscribe_pipeline.cli.output import console, print_json
    from medscribe_pipeline.providers.jobs import by_hand
    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

    with Warehouse.open(Settings.load()) as warehouse:
        rows = by_hand.listed(warehouse, by_hand.WhichJobs(ids=(job,)))
    if not rows:
        raise ConfigError("There is no job of that id; see `medscribe jobs list`", code="no_such_job")
    told = _json(rows[0])
    means = _means(rows[0])
    if as_json:
        print_json({**told, "means": means})
        return
    for name, value in told.items():
        shown = _time(value) if isinstance(value, datetime) else "-" if value is None else value
        console.print(f"{name:<14} {shown}", markup=False, highlight=False, soft_wrap=True)
    console.print(means, markup=False, highlight=False)


@jobs_app.command()
def retry(
    jobs: Ids = None,
    provider: Provider = None,
    code: Code = None,
    day: Day = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Have jobs done again that failed, expired or were cancelled by hand. The next sync submits them."""
    from medscribe_pipeline.providers.jobs import State, by_hand
    from medscribe_pipeline.warehouse.audit import current_user

    def act(warehouse: Warehouse, job: str) -> Found:
        return by_hand.retry(warehouse, job, who=current_user(), now=datetime.now(UTC))

    states = [State.FAILED.value, State.EXPIRED.value]
    _carry_out(act, jobs, provider=provider, states=states, code=code, day=day, yes=yes, as_json=as_json)


@jobs_app.command()
def cancel(
    jobs: Ids = None,
    provider: Provider = None,
    code: Code = None,
    day: Day = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Cancel jobs that were never sent, and give up those that failed or expired: the day counts as complete then.

    What the provider has, nobody here can take back.
    """
    from medscribe_pipeline.providers.jobs import State, by_hand
    from medscribe_pipeline.warehouse.audit import current_user

    def act(warehouse: Warehouse, job: str) -> Found:
        return by_hand.cancel(warehouse, job, who=current_user(), now=datetime.now(UTC))

    states = [State.WANTED.value, State.FAILED.value, State.EXPIRED.value]
    _carry_out(act, jobs, provider=provider, states=states, code=code, day=day, yes=yes, as_json=as_json)


@jobs_app.command()
def resolve(
    job: Id,
    absent: Annotated[
        bool, typer.Option("--absent", help="You have looked: the provider has no such job. It is submitted again.")
    ] = False,
    vendor_id: Annotated[
        str | None, typer.Option("--is", help="You have looked: the provider has it under this id.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what became of a job in doubt: it was submitted, and no answer told whether it arrived."""
    from medscribe_pipeline.providers.jobs import by_hand
    from medscribe_pipeline.settings import JobSettings, Settings
    from medscribe_pipeline.warehouse.audit import current_user
    from medscribe_pipeline.warehouse.store import Warehouse

    if absent == (vendor_id is not None):
        raise ConfigError("Say either --absent, or --is and the provider's id", code="resolve")
    settings = Settings.load()
    now = datetime.now(UTC)
    with Warehouse.open(settings) as warehouse:
        rows = by_hand.listed(warehouse, by_hand.WhichJobs(ids=(job,)))
        if vendor_id is None or not rows:
            found = by_hand.absent(warehouse, job, who=current_user(), now=now)
        else:
            own: JobSettings = getattr(settings, rows[0].provider)
            after_s = own.job_expires_after_s
            found = by_hand.identify(warehouse, job, vendor_id, who=current_user(), now=now, expires_after_s=after_s)
    _tell([(job, found)], as_json=as_json)


def _carry_out(
    act: Callable[[Warehouse, str], Found],
    ids: Sequence[str] | None,
    *,
    provider: str | None,
    states: Sequence[str],
    code: str | None,
    day: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    from medscribe_pipeline.providers.jobs import by_hand
    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

    narrowed = provider or code or day
    if ids and narrowed:
        raise ConfigError("Name jobs, or say which by --provider, --code and --day; not both", code="which_jobs")
    if not ids and not narrowed:
        raise ConfigError("Say which jobs: by their ids, or by --provider, --code or --day", code="which_jobs")
    settings = Settings.load()
    with Warehouse.open(settings) as warehouse:
        chosen = list(dict.fromkeys(ids or ()))
        if not chosen:
            which = _which(settings, provider=provider, states=states, code=code, day=day)
            chosen = [row.id for row in by_hand.listed(warehouse, which)]
        if len(chosen) > 1 and not yes:
            raise ConfigError(
                "That is more than one job; say --yes if all are meant", code="needs_yes", context={"jobs": len(chosen)}
            )
        found = [(each, act(warehouse, each)) for each in chosen]
    _tell(found, as_json=as_json)


_TOLD = {
    "done": "Done",
    "other_state": "Left alone: it is in another state; see `medscribe jobs show ID`",
    "in_doubt": "Left alone: nobody knows whether it arrived. Look at the provider, then `medscribe jobs resolve ID`",
    "was_sent": "Left alone: it was sent before, and may be at the provider",
}


def _tell(found: Sequence[tuple[str, Found]], *, as_json: bool) -> None:
    """Prints what became of each, and ends: with 0 when all was done."""
    from collections import Counter

    from medscribe_pipeline.cli.output import console, print_json

    counts = Counter(each.value for _, each in found)
    if as_json:
        print_json({"jobs": [{"id": job, "found": each.value} for job, each in found]})
    elif not found:
        console.print("There are no such jobs.", highlight=False)
    else:
        for name, number in counts.items():
            console.print(f"{_TOLD[name]}: {number} of {len(found)}.", highlight=False)
        if counts["done"]:
            console.print(
                "What is to be submitted or asked after waits for the next `medscribe sync`.", highlight=False
            )
    raise typer.Exit(1 if set(counts) - {"done"} else 0)


def _which(
    settings: Settings, *, provider: str | None, states: Sequence[str] | None, code: str | None, day: str | None
) -> WhichJobs:
    from medscribe_pipeline.operation.day import day_bounds
    from medscribe_pipeline.providers.jobs import State
    from medscribe_pipeline.providers.jobs.by_hand import WhichJobs

    known = {each.value: each for each in State}
    if wrong := [each for each in states or () if each not in known]:
        raise ConfigError(
            f"There is no such state; known are: {', '.join(known)}", code="state", context={"given": len(wrong)}
        )
    return WhichJobs(
        provider=provider,
        states=tuple(known[each] for each in states or ()),
        code=code,
        between=day_bounds(settings, local_day(day, settings, datetime.now(UTC))) if day else None,
    )


def _print_counts(found: Sequence[tuple[str, str, State, str | None, int]]) -> None:
    from rich.text import Text

    from medscribe_pipeline.cli.output import console, plain_table

    table = plain_table()
    for column in ("provider", "step", "state", "code", "which means"):
        table.add_column(column, overflow="fold")
    table.add_column("jobs", justify="right")
    for provider, step, state, code, number in found:
        table.add_row(provider, step, state.value, Text(code or "-"), _why(state, code), str(number))
    console.print(table)


def _told(state: State, code: str | None) -> Explained | None:
    """What a state and its code mean; `None` of a job whose result has landed."""
    from medscribe_pipeline.operation.reasons import Kind, explain

    kinds = {
        "failed": Kind.JOB_STOPPED,
        "expired": Kind.JOB_STOPPED,
        "unknown": Kind.JOB_UNKNOWN,
        "cancelled": Kind.JOB_CANCELLED,
    }
    if state.value == "fetched":
        return None
    # While a job is open, a code says why asking after it did not work the last time: no reason of its own.
    return explain(kinds.get(state.value, Kind.JOB_OPEN), code if state.value in kinds else None)


def _why(state: State, code: str | None) -> str:
    told = _told(state, code)
    # A code that is not ours stands in the column before, and needs no repeating.
    return told.says.removesuffix(f": {code}") if told is not None else "its result has landed"


def _means(row: JobRow) -> str:
    told = _told(row.state, row.code)
    if told is None:
        return "Its result has landed."
    command = f" `{told.command}`" if told.command else ""
    return f"{told.says[:1].upper()}{told.says[1:]}. {told.to_do[:1].upper()}{told.to_do[1:]}.{command}"


def _json(row: JobRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__dataclass_fields__}


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
