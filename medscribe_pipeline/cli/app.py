"""The commands. Each one reads its settings, calls the connector, and prints: a table for people, JSON on `--json`."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medscribe_pipeline import __version__
from medscribe_pipeline.cli.audit import audit_app, noted
from medscribe_pipeline.cli.cursors import cursors_app
from medscribe_pipeline.cli.day import day, status
from medscribe_pipeline.cli.deliveries import deliver, deliveries_app
from medscribe_pipeline.cli.doctor import doctor
from medscribe_pipeline.cli.ehr import ehr_app
from medscribe_pipeline.cli.fhir import fhir_app
from medscribe_pipeline.cli.forget import forget
from medscribe_pipeline.cli.help import PlainGroup
from medscribe_pipeline.cli.jobs import jobs_app
from medscribe_pipeline.cli.links import links_app
from medscribe_pipeline.cli.options import Json
from medscribe_pipeline.cli.quarantine import quarantine_app
from medscribe_pipeline.cli.sweep import prune, sweep

if TYPE_CHECKING:
    from medscribe_pipeline.cli.runner import SyncResult
    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

app = typer.Typer(
    name="medscribe",
    cls=PlainGroup,
    help="AI scribe notes into FHIR documents, a SQL warehouse and an EHR.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
visits_app = typer.Typer(
    help="The visits manifest: who, where and when, for recordings that do not say.", no_args_is_help=True
)
app.add_typer(visits_app, name="visits", cls=PlainGroup)
app.add_typer(fhir_app, name="fhir", cls=PlainGroup)
app.add_typer(ehr_app, name="ehr", cls=PlainGroup)
app.add_typer(links_app, name="links", cls=PlainGroup)
app.add_typer(deliveries_app, name="deliveries", cls=PlainGroup)
app.add_typer(quarantine_app, name="quarantine", cls=PlainGroup)
app.add_typer(audit_app, name="audit", cls=PlainGroup)
app.add_typer(cursors_app, name="cursors", cls=PlainGroup)
app.add_typer(jobs_app, name="jobs", cls=PlainGroup)
app.command()(deliver)
app.command()(status)
app.command()(day)
app.command()(doctor)
app.command()(sweep)
app.command()(prune)
app.command()(forget)


def _version(value: bool) -> None:  # typer's callback signature
    if value:
        typer.echo(f"medscribe-pipeline {__version__}")
        raise typer.Exit


@app.callback()
def root(
    ctx: typer.Context,
    version: Annotated[  # noqa: ARG001  # heeded by its callback
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,  # typer's way to write a flag
) -> None:
    """AI scribe notes into FHIR documents, a SQL warehouse and an EHR."""
    if "--help" in sys.argv[1:]:
        return
    from medscribe_pipeline.operation.reasons import SAYS
    from medscribe_pipeline.settings import watch_settings
    from medscribe_pipeline.watching import begin

    begin(watch_settings(), level="info" if ctx.invoked_subcommand == "receive" else "warning", codes=SAYS)


@app.command()
def init(as_json: Json = False) -> None:  # typer's way to write a flag
    """Create the warehouse, or migrate it to this version."""
    from medscribe_pipeline.cli.output import console, print_json
    from medscribe_pipeline.warehouse.store import SCHEMA_HEAD, Warehouse

    settings = _settings()
    with Warehouse.open(settings, migrate=False) as warehouse:
        migrated = warehouse.migrate()
    if as_json:
        print_json({"schema_version": SCHEMA_HEAD, "migrated": migrated})
    else:
        console.print(f"The warehouse is at schema {SCHEMA_HEAD}{'' if migrated else ' already'}.", highlight=False)


@app.command()
def sync(
    provider: Annotated[list[str] | None, typer.Option(help="Only this provider; may be given several times.")] = None,
    since: Annotated[str | None, typer.Option(help="Read changes from this ISO 8601 time on.")] = None,
    until: Annotated[str | None, typer.Option(help="Read changes up to this ISO 8601 time.")] = None,
    full_refresh: Annotated[bool, typer.Option("--full-refresh", help="Read everything again.")] = False,
    as_json: Json = False,
) -> None:
    """Pull what changed, then build and deliver the visit days it touched."""
    from medscribe_pipeline.cli import runner
    from medscribe_pipeline.cli.output import progress_shown

    settings = _settings()
    with _warehouse(settings) as warehouse:
        with progress_shown("medscribe sync"):
            result = runner.sync(
                settings,
                warehouse,
                providers=provider or (),
                since=since,
                until=until,
                full_refresh=full_refresh,
            )
        code = report(settings, warehouse, result, as_json=as_json)
    raise typer.Exit(code)


@app.command()
def show(
    note_id: Annotated[str, typer.Argument(help="Note id (UUID), or PROVIDER:SOURCE_ID.")],
    text: Annotated[bool, typer.Option("--text", help="Also print the patient's text. Mind who reads along.")] = False,
    as_json: Json = False,
) -> None:
    """Show one note: its sections, its FHIR documents and its delivery."""
    from medscribe_pipeline.cli.output import print_json
    from medscribe_pipeline.cli.show import describe, render

    settings = _settings()
    with _warehouse(settings) as warehouse:
        found = describe(warehouse, note_id, with_text=text)
        if text:
            noted(warehouse, "show_text", found["note"]["note_id"])
    if as_json:
        print_json(found)
    else:
        render(found)


@app.command()
def preview(
    note_id: Annotated[str, typer.Argument(help="Note id (UUID), or PROVIDER:SOURCE_ID.")],
    out: Annotated[Path, typer.Option(help="HTML file to write. It holds the patient's text: mind where it lies.")],
    transcript: Annotated[bool, typer.Option("--transcript", help="Also show what was said.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
    as_json: Json = False,
) -> None:
    """Write one note as a page for a browser: what an EHR receives, with codes, status and delivery."""
    from medscribe_pipeline.cli.output import console, print_json
    from medscribe_pipeline.cli.preview import draw, write_private

    settings = _settings()
    with _warehouse(settings) as warehouse:
        drawn = draw(settings, warehouse, note_id, transcript=transcript)
        noted(warehouse, "preview_transcript" if transcript else "preview", drawn.facts["note_id"])
    write_private(out, drawn.page, replace=force)
    if as_json:
        print_json({"out": str(out), **drawn.facts})
        return
    console.print(f"{out} written. {drawn.facts['delivery']}", markup=False, highlight=False, soft_wrap=True)
    if unknown := drawn.facts["unknown_keys"]:
        console.print(f"Section keys the mapping does not know: {', '.join(unknown)}.", markup=False, highlight=False)


@visits_app.command("import")
def import_visits(
    file: Annotated[Path, typer.Argument(help="CSV file with a header; see docs/visits.md.")],
    as_json: Json = False,
) -> None:
    """Import a visits manifest, all of it or nothing."""
    import dataclasses

    from medscribe_pipeline.cli.output import console, print_json
    from medscribe_pipeline.providers.catalogue import PROVIDERS
    from medscribe_pipeline.visits import read_visits
    from medscribe_pipeline.warehouse import manifest
    from medscribe_pipeline.warehouse.days import DayRule

    settings = _settings()
    rows = read_visits(file, zone=settings.zone, known_providers=tuple(PROVIDERS))
    with _warehouse(settings) as warehouse:
        done = manifest.import_visits(warehouse, rows, days=DayRule.of(settings), now=datetime.now(UTC))
    if as_json:
        print_json(dataclasses.asdict(done))
        return
    console.print(
        f"{done.new} visits new, {done.changed} changed, {done.unchanged} as before; "
        f"{done.records} landed records will be built again by the next sync.",
        highlight=False,
    )
    if done.forgotten:
        console.print(f"{done.forgotten} were forgotten on request, and stay so.", highlight=False)


@app.command()
def receive(
    ready_file: Annotated[Path | None, typer.Option(help="File to write the URL to once it listens.")] = None,
) -> None:
    """Receive callbacks and webhooks into the inbox, until Ctrl-C."""
    from medscribe_pipeline.cli.receive import run_receiver

    run_receiver(_settings(), ready_file=ready_file)


@app.command()
def sandbox(
    port: Annotated[int, typer.Option(help="Port on loopback; 0 takes a free one.")] = 0,
    state: Annotated[Path | None, typer.Option(help="File the sandbox keeps its world in between starts.")] = None,
    faults: Annotated[bool, typer.Option("--faults", help="Misbehave in every way at once.")] = False,
    ready_file: Annotated[Path | None, typer.Option(help="File to write the URLs to once it listens.")] = None,
    as_json: Json = False,
) -> None:
    """Run the simulated providers and FHIR endpoint, on loopback only, until Ctrl-C."""
    from medscribe_pipeline.cli.demo import run_sandbox

    run_sandbox(port=port, state=state, faults=faults, ready_file=ready_file, as_json=as_json)


@app.command()
def demo(
    ui: Annotated[bool, typer.Option("--ui", help="Then open the Dagster UI on the demo, until Ctrl-C.")] = False,
    port: Annotated[int, typer.Option(help="Port of the UI.")] = 3000,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget earlier demos first.")] = False,
    as_json: Json = False,
) -> None:
    """Run everything once against the sandbox: no account, nothing leaves this machine."""
    from medscribe_pipeline.cli import demo as demonstration

    raise typer.Exit(demonstration.run(ui_port=port if ui else None, fresh=fresh, as_json=as_json))


def report(
    settings: Settings, warehouse: Warehouse, result: SyncResult, *, as_json: bool, quarantine_is_trouble: bool = True
) -> int:
    """Prints what a sync did and where everything is now; returns the exit code."""
    from medscribe_pipeline.cli.output import console, print_json, run_summary, status_json, status_tables
    from medscribe_pipeline.pipeline import fingerprint
    from medscribe_pipeline.warehouse.reports import read_status

    found = read_status(warehouse, targets=_targets(settings), fingerprint=fingerprint(settings))
    troubled = found.troubled or (found.open_quarantine and quarantine_is_trouble)
    code = result.exit_code or (1 if troubled else 0)
    if as_json:
        failures = [{"step": f.step, "code": f.code, "message": f.message} for f in result.failures]
        run: dict[str, Any] = {"sources": result.sources, "stages": result.stages, "days": result.days}
        run |= {"failures": failures, "duration_s": round(result.duration_s, 3), "exit_code": code}
        print_json({"run": run, "status": status_json(found)})
        return code
    run_summary(result)
    for table in status_tables(found):
        console.print(table)
    for failure in result.failures:
        console.print(f"[bold red]failed[/] {failure.step}: ", end="")
        console.print(failure.message, markup=False, highlight=False)
    console.print(f"Took {result.duration_s:.1f} s. Warehouse: {_place(settings)}", highlight=False, soft_wrap=True)
    return code


def _settings() -> Settings:
    from medscribe_pipeline.settings import Settings

    return Settings.load()


def _warehouse(settings: Settings) -> Warehouse:
    from medscribe_pipeline.warehouse.store import Warehouse

    return Warehouse.open(settings)


def _targets(settings: Settings) -> tuple[str, ...]:
    """Names of the targets to report on: while none is configured, what was delivered to the first before."""
    return tuple(settings.targets) or (settings.ehr.target,)


def _place(settings: Settings) -> str:
    """Where the warehouse is, without credentials."""
    import sqlalchemy as sa

    url = sa.make_url(settings.database_url)
    return url.database or "" if url.get_backend_name() == "sqlite" else url.render_as_string(hide_password=True)
