"""`medscribe deliveries`: how note versions stand on their way into the EHR, and what a person can do about it.

Nothing here shows a text or an identifier of a patient; ids on the server only where they are asked for.
"""

from __future__ import annotations

from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medscribe_pipeline.cli.audit import noted
from medscribe_pipeline.cli.ehr import target_of
from medscribe_pipeline.cli.options import Day, Json, day_of
from medscribe_pipeline.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medscribe_pipeline.ehr.ledger import State
    from medscribe_pipeline.ehr.listing import Standing

__all__ = ["deliver", "deliveries_app"]

deliveries_app = typer.Typer(
    help="How notes stand on their way into the EHR, and what a person can do about it.", no_args_is_help=True
)

Target = Annotated[str | None, typer.Option(help="Only this target. Default: every one.")]
Reason = Annotated[str | None, typer.Option(help="Only what is held, rejected or unknown for this reason.")]
Provider = Annotated[str | None, typer.Option(help="Only notes of this provider.")]
# Typer takes no list of a Literal; what is no state is told by `_states`.
StateNames = Annotated[
    list[str] | None, typer.Option("--state", help="Only what is in this state; may be given several times.")
]
Note = Annotated[str, typer.Argument(help="Note id (UUID), or PROVIDER:SOURCE_ID.")]
Notes = Annotated[list[str] | None, typer.Argument(help="Note ids (UUID), or PROVIDER:SOURCE_ID.")]
Yes = Annotated[bool, typer.Option("--yes", help="Needed for more than one version.")]


@deliveries_app.command("list")
def list_deliveries(
    target: Target = None,
    state: StateNames = None,
    reason: Reason = None,
    day: Day = None,
    provider: Provider = None,
    limit: Annotated[int, typer.Option(min=0, help="Most versions to list; 0 for all.")] = 100,
    counts: Annotated[bool, typer.Option("--counts", help="Only how many there are of each state and reason.")] = False,
    ids: Annotated[bool, typer.Option("--ids", help="Also show the ids on the server.")] = False,
    as_json: Json = False,
) -> None:
    """List note versions, each with its state; how many there are of each state and reason comes first."""
    from medscribe_pipeline.cli import deliveries_print as show
    from medscribe_pipeline.cli.output import print_json
    from medscribe_pipeline.ehr.ledger import State
    from medscribe_pipeline.ehr.listing import Which, counted, pages
    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

    which = Which(
        targets=(target,) if target else (),
        states=_states(state, tuple(State)),
        reason=reason,
        day=day_of(day),
        provider=provider,
    )
    settings = Settings.load()
    with Warehouse.open(settings) as warehouse:
        found = counted(warehouse, which)
        if target and not found and not counted(warehouse, Which(targets=(target,))):
            target_of(settings, target)  # a slip of the pen must not look like an empty ledger
        if as_json and counts:
            print_json({"counts": show.counts_json(found)})
            return
        standings = chain.from_iterable(pages(warehouse, which))
        if as_json:
            rows = (show.standing_json(each, ids=ids) for each in islice(standings, limit or None))
            show.stream_json(
                {"counts": show.counts_json(found)}, "deliveries", rows, lambda: {"more": any(True for _ in standings)}
            )
            return
        if not found:
            show.say("There is nothing of that in the ledger.")
            return
        show.print_counts(found, "Note versions")
        if not counts:
            show.write_lines(standings, found, limit=limit, ids=ids)


@deliveries_app.command("show")
def show_note(note: Note, as_json: Json = False) -> None:
    """Show all versions of one note on all targets, what their states mean and what can be done."""
    from medscribe_pipeline.cli.deliveries_print import print_note
    from medscribe_pipeline.cli.show import find_note
    from medscribe_pipeline.ehr.listing import Which, pages
    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

    settings = Settings.load()
    with Warehouse.open(settings) as warehouse:
        with warehouse.read() as connection:
            found = find_note(connection, warehouse.account, note)
        standings = list(chain.from_iterable(pages(warehouse, Which(note_ids=(found.note_id,)))))
    facts = {name: getattr(found, name) for name in ("note_id", "provider", "state", "visit_day", "version")}
    standings.sort(key=lambda each: (each.key.target, each.source_seq))
    print_note(facts, standings, as_json=as_json)


@deliveries_app.command()
def retry(
    notes: Notes = None,
    target: Target = None,
    reason: Reason = None,
    day: Day = None,
    discarded: Annotated[
        bool, typer.Option("--discarded", help="Also what was discarded; of notes that are named, always.")
    ] = False,
    absent: Annotated[
        bool, typer.Option("--absent", help="You have looked: what was discarded in doubt is not on the server.")
    ] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Plan rejected or discarded versions again, after their cause is mended. They go out with the next sync."""
    from medscribe_pipeline.cli import deliveries_acts as acts
    from medscribe_pipeline.ehr import by_hand
    from medscribe_pipeline.ehr.ledger import State
    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.audit import current_user
    from medscribe_pipeline.warehouse.store import Warehouse

    settings = Settings.load()
    states = (State.REJECTED, State.DISCARDED) if discarded or notes else (State.REJECTED,)
    with Warehouse.open(settings) as warehouse:
        which = acts.choose(
            settings, warehouse, notes or (), states=states, target=target, reason=reason, day=day, more=discarded
        )
        code = acts.carry_out(
            warehouse,
            acts.Choice(which, named=bool(notes), yes=yes, as_json=as_json),
            "planned again",
            partial(by_hand.retry_obstacle, absent=absent),
            partial(by_hand.retry, warehouse, which, who=current_user(), clock=acts.now, absent=absent),
        )
    raise typer.Exit(code)


@deliveries_app.command()
def discard(
    notes: Notes = None,
    target: Target = None,
    state: StateNames = None,
    reason: Reason = None,
    day: Day = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Decide that versions are not sent. `retry` brings them back; what a server has already stays there."""
    from medscribe_pipeline.cli import deliveries_acts as acts
    from medscribe_pipeline.ehr import by_hand
    from medscribe_pipeline.ehr.ledger import MOVES
    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.audit import current_user
    from medscribe_pipeline.warehouse.store import Warehouse

    settings = Settings.load()
    able = MOVES["discard"].sources
    states = _states(state, able) or able
    with Warehouse.open(settings) as warehouse:
        which = acts.choose(
            settings, warehouse, notes or (), states=states, target=target, reason=reason, day=day, more=bool(state)
        )
        code = acts.carry_out(
            warehouse,
            acts.Choice(which, named=bool(notes), yes=yes, as_json=as_json),
            "discarded",
            by_hand.discard_obstacle,
            partial(by_hand.discard, warehouse, which, who=current_user(), clock=acts.now),
        )
    raise typer.Exit(code)


@deliveries_app.command()
def release(
    note: Note,
    absent: Annotated[bool, typer.Option("--absent", help="You have looked: it is not on the server.")] = False,
    there: Annotated[str | None, typer.Option(help="You have looked: it is on the server, under this id.")] = None,
    kind: Annotated[str | None, typer.Option(help="Which document has that id, where several are in doubt.")] = None,
    attempts: Annotated[
        int | None, typer.Option(help="How often it had been sent when you looked; refused if it was sent again since.")
    ] = None,
    target: Target = None,
    as_json: Json = False,
) -> None:
    """Tell what became of a version that nobody knows about, after you have looked at the server."""
    from medscribe_pipeline.cli import deliveries_acts as acts
    from medscribe_pipeline.cli.deliveries_print import say
    from medscribe_pipeline.cli.output import print_json
    from medscribe_pipeline.ehr import by_hand
    from medscribe_pipeline.ehr.ledger import State
    from medscribe_pipeline.ehr.listing import pages
    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.audit import current_user
    from medscribe_pipeline.warehouse.store import Warehouse

    if absent == (there is not None) or (absent and kind):
        raise ConfigError("Give one of the two: --absent, or --there with the id on the server", code="release")
    settings = Settings.load()
    state: State | None = None
    with Warehouse.open(settings) as warehouse:
        which = acts.choose(settings, warehouse, [note], states=(State.UNKNOWN,), target=target, reason=None, day=None)
        found = list(chain.from_iterable(pages(warehouse, which)))
        if len(found) > 1:
            raise ConfigError(
                "Several versions of this note are unknown; say with --target which you have looked for",
                code="which_version",
            )
        if found and attempts in (None, found[0].attempts):
            signed: dict[str, Any] = {"who": current_user(), "clock": acts.now}
            if there is not None:
                state = by_hand.release_there(warehouse, found[0], kind, there, **signed)
            elif by_hand.release_absent(warehouse, found[0], **signed):
                state = State.PLANNED
    if as_json:
        print_json({"unknown": len(found), "state": state, "overtaken": bool(found) and state is None})
    else:
        say(_released(found, state))
    raise typer.Exit(1 if found and state is None else 0)


@deliveries_app.command()
def reconcile(
    target: Target = None,
    as_json: Json = False,
) -> None:
    """Ask the servers now what became of everything nobody knows about. Nothing is sent."""
    from medscribe_pipeline.cli.deliveries_ask import ask_all
    from medscribe_pipeline.cli.deliveries_print import say
    from medscribe_pipeline.cli.output import print_json, progress_shown
    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

    settings = Settings.load()
    first = target_of(settings, target)
    targets = [first] if target else list(settings.targets.values())
    with Warehouse.open(settings) as warehouse, progress_shown("medscribe deliveries reconcile"):
        asked = ask_all(settings, warehouse, targets)
    if as_json:
        print_json(asked.as_json())
    else:
        for line in asked.lines():
            say(line)
    for error in asked.errors.values():
        raise error
    raise typer.Exit(1 if any(asked.unknown.values()) else 0)


def deliver(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be sent, and send nothing.")] = False,
    day: Day = None,
    target: Target = None,
    text: Annotated[
        bool, typer.Option("--text", help="Also print values: the patient's text. Mind who reads.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show what the next sync would send to the EHR, as a difference to what is there. Sends nothing."""
    from medscribe_pipeline.cli import deliveries_ask
    from medscribe_pipeline.pipeline import due_days
    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

    if not dry_run:
        raise ConfigError(
            "`medscribe sync` builds and delivers what is due; with --dry-run this command shows what that would send",
            code="dry_run",
        )
    settings = Settings.load()
    only = day_of(day)
    first = target_of(settings, target)
    targets = [first] if target else list(settings.targets.values())
    with Warehouse.open(settings) as warehouse:
        days = [only] if only else [each for each, _ in due_days(warehouse, settings)]
        if text:
            noted(warehouse, "deliver_text", *(each.target for each in targets))
        deliveries_ask.dry_run(settings, warehouse, targets, days, with_text=text, as_json=as_json)


def _states(names: Sequence[str] | None, able: Sequence[State]) -> tuple[State, ...]:
    known = {state.value: state for state in able}
    if any(name not in known for name in names or ()):
        raise ConfigError(f"--state takes one of: {', '.join(known)}", code="state")
    return tuple(known[name] for name in names or ())


def _released(found: Sequence[Standing], state: str | None) -> str:
    if not found:
        return "Nothing of this note is unknown. `medscribe deliveries show` tells how it stands."
    if state is None:
        return "Something else happened to it meanwhile, so nothing was done: look at it again."
    if state == "unknown":
        return "Noted. Other documents of it are still in doubt: tell about them too."
    if state == "planned" and not found[0].newest:
        return "Noted. A newer version of the note has come since; that goes out with the next `medscribe sync`."
    if state == "planned":
        return "Planned again: what is not on the server goes out with the next `medscribe sync`."
    return "Delivered: the whole of it is on the server."
