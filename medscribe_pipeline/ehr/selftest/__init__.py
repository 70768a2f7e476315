"""What a target really does, found out with one synthetic document that is withdrawn at the end.

It is sent, sent again, searched, read, amended and withdrawn by the very code that delivers notes: the capabilities in
force, `fit`, the strategy they ask for, the look-up and the comparison. Two more synthetic notes are tried where they
are needed: one that is sent twice at the same moment, one that must not arrive.

Nothing is taken from a warehouse and nothing is written to one.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from medscribe_pipeline.ehr.selftest import changing, creating, reading
from medscribe_pipeline.ehr.selftest.bench import Bench
from medscribe_pipeline.ehr.selftest.findings import Finding, Left, SelftestReport
from medscribe_pipeline.ehr.selftest.specimen import People, Specimen, place
from medscribe_pipeline.ehr.targets import load
from medscribe_pipeline.errors import MedscribeError
from medscribe_pipeline.fhir.options import BuildOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from medscribe_pipeline.ehr.client import FhirClient
    from medscribe_pipeline.settings import EhrSettings, FhirSettings

__all__ = ["Finding", "Left", "People", "SelftestReport", "selftest"]


def selftest(
    client: FhirClient,
    settings: EhrSettings,
    fhir: FhirSettings,
    *,
    run_id: str,
    people: People | None = None,
    may_leave_two: bool = False,
    sleep: Callable[[float], None] = time.sleep,
) -> SelftestReport:
    """Tries a target with a synthetic document.

    About 25 requests; more where a document is a request of its own, or where a search is slow. What ends it before its
    time, once something was sent, is in the report, with what was left behind.

    Args:
        client: The target.
        settings: Its settings.
        fhir: How documents are built.
        run_id: Fresh for every run: all identifiers are made of it, and the titles show it.
        people: The test patient, and whom else the target wants to know.
        may_leave_two: Also send again what a server may then have twice, and perhaps for ever.
        sleep: Waits; a test may bring its own.

    Raises:
        ConfigError: The target or the capabilities cannot be used (see `targets.load`); no test patient is given, or
            known; the target would not take such a document. Nothing was sent.
        Retriable: The server cannot be reached. Nothing was sent.
    """
    before = client.requests
    capabilities = load(settings, client.capabilities(), release=fhir.release)
    placed = place(client, people or People(), capabilities, run_id)
    options = BuildOptions.of(fhir)
    main = Specimen("main", run_id, settings.target, placed, options)
    bench = Bench(
        client=client,
        settings=settings,
        capabilities=capabilities,
        options=options,
        placed=placed,
        run_id=run_id,
        may_leave_two=may_leave_two,
        sleep=sleep,
        main=main,
        first=main.first(capabilities),
        warnings=[placed.warning] if placed.warning else [],
    )
    return SelftestReport(
        target=settings.target,
        run_id=run_id,
        problem=_try_all(bench),
        findings=tuple(bench.findings),
        left=bench.left(),
        warnings=tuple(dict.fromkeys(bench.warnings)),
        requests=client.requests - before,
        capabilities=capabilities,
    )


def _try_all(bench: Bench) -> MedscribeError | None:
    """Takes the steps in their order; returns what ended them, if anything did."""
    problem = None
    try:
        if creating.accept(bench):
            for step in (
                reading.read,
                creating.find,
                creating.repeat,
                creating.race,
                changing.update,
                changing.guard,
                changing.be_atomic,
            ):
                step(bench)
    except MedscribeError as error:
        problem = error
    try:
        if bench.items:
            changing.withdraw(bench)
    except MedscribeError as error:
        problem = problem or error
    return problem
