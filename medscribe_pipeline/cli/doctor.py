"""`medscribe doctor`: whether everything is in order, each finding with what to do."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from medscribe_pipeline.cli.options import Json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from medscribe_pipeline.operation.doctor import Check

__all__ = ["doctor"]


def doctor(
    offline: Annotated[bool, typer.Option("--offline", help="Ask no provider and no EHR.")] = False,
    as_json: Json = False,
) -> None:
    """Check settings, warehouse, clocks, providers, EHR and the Dagster instance. Changes nothing.

    Exit code 1 when any check failed; a warning is none.
    """
    from medscribe_pipeline.cli.output import print_json
    from medscribe_pipeline.operation.doctor import failed

    found = []
    for check in _checks(offline=offline):
        found.append(check)
        if not as_json:
            _print(check)
    if as_json:
        rows = [{name: getattr(check, name) for name in check.__dataclass_fields__} for check in found]
        print_json({"ok": not failed(found), "checks": rows})
    raise typer.Exit(1 if failed(found) else 0)


def _checks(*, offline: bool) -> Iterator[Check]:
    from medscribe_pipeline.cli.doctor_dagster import check_dagster
    from medscribe_pipeline.errors import ConfigError
    from medscribe_pipeline.operation.doctor import Check, Level, check_local, check_remote, check_stored, open_as_it_is
    from medscribe_pipeline.settings import Settings

    try:
        settings = Settings.load()
    except ConfigError as error:
        yield Check("settings", Level.FAIL, str(error), "Mend the variable that is named; see docs/configuration.md")
        return
    yield Check("settings", Level.OK, f"Readable and consistent, for the account {settings.account}")
    yield from check_local(settings)
    with open_as_it_is(settings) as (warehouse, check):
        yield check
        if warehouse is not None:
            yield from check_stored(warehouse, now=datetime.now(UTC))
            if not offline:
                yield from check_remote(settings, warehouse, clock=lambda: datetime.now(UTC))
    yield from check_dagster(settings)


_MARKS = {"ok": ("ok  ", "green"), "warn": ("warn", "yellow"), "fail": ("FAIL", "bold red")}


def _print(check: Check) -> None:
    from rich.text import Text

    from medscribe_pipeline.cli.output import console

    mark, style = _MARKS[check.level.value]
    console.print(Text.assemble((mark, style), f" {check.name}: {check.says}"))
    if check.to_do:
        console.print(Text(f"     {check.to_do}", style="dim"))
