"""`medscribe ehr`: the FHIR servers we deliver to, and who we are there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from medscribe_pipeline.cli.options import Json
from medscribe_pipeline.errors import ConfigError

if TYPE_CHECKING:
    from medscribe_pipeline.settings import EhrSettings, Settings

__all__ = ["ehr_app", "target_of"]

ehr_app = typer.Typer(help="The FHIR servers notes are delivered to.", no_args_is_help=True)

Target = Annotated[str | None, typer.Option(help="Name of the target. Default: the first.")]


@ehr_app.command()
def jwks(target: Target = None) -> None:
    """Print the public key of a target as a JWKS, for its registration or for your web server."""
    from medscribe_pipeline.cli.output import print_json
    from medscribe_pipeline.ehr.keys import load_client_key
    from medscribe_pipeline.settings import Settings

    print_json({"keys": [load_client_key(target_of(Settings.load(), target)).public_jwk()]})


@ehr_app.command()
def probe(target: Target = None, as_json: Json = False) -> None:  # typer's way to write a flag
    """Ask a target what it is and what it can do. Writes nothing."""
    from medscribe_pipeline.cli.ehr_probe import run_probe
    from medscribe_pipeline.settings import Settings

    settings = Settings.load()
    raise typer.Exit(run_probe(settings, target_of(settings, target), as_json=as_json))


@ehr_app.command()
def selftest(
    target: Target = None,
    patient: Annotated[str | None, typer.Option(help="Identifier of a TEST patient, as SYSTEM|VALUE.")] = None,
    patient_id: Annotated[str | None, typer.Option(help="Id of a TEST patient on the server, instead.")] = None,
    practitioner_id: Annotated[str | None, typer.Option(help="Id of a clinician there, if it wants one.")] = None,
    encounter_id: Annotated[
        str | None, typer.Option(help="Id of an encounter of the test patient there, if it wants one.")
    ] = None,
    may_leave_two: Annotated[
        bool,
        typer.Option(
            "--may-leave-two", help="Also send again what the server may then have twice, and perhaps for ever."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Send one synthetic document to a target, again and in all ways, and say what the server really does.

    What is left is withdrawn at the end, where the target allows it.
    """
    from medscribe_pipeline.cli.ehr_selftest import people_of, run_selftest
    from medscribe_pipeline.settings import Settings

    people = people_of(patient, patient_id, practitioner_id, encounter_id)
    settings = Settings.load()
    chosen = target_of(settings, target)
    raise typer.Exit(run_selftest(settings, chosen, people, may_leave_two=may_leave_two, as_json=as_json))


def target_of(settings: Settings, name: str | None) -> EhrSettings:
    """The settings of a target by its name; those of the first without one.

    Raises:
        ConfigError: `target`: there is none of that name, or none at all.
    """
    targets = settings.targets
    if name is None and targets:
        return next(iter(targets.values()))
    if name is not None and name in targets:
        return targets[name]
    known = ", ".join(targets)
    raise ConfigError(
        f"There is no target of that name; known are: {known}" if known else "MEDSCRIBE_EHR_BASE_URL is not set",
        code="target",
    )
