"""Checks of the providers and of the FHIR servers: one or two cheap requests each, nothing is written there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medscribe_pipeline.ehr.auth import open_http
from medscribe_pipeline.ehr.probe import probe
from medscribe_pipeline.errors import MedscribeError
from medscribe_pipeline.operation.doctor.checks import Check, Level, of_error
from medscribe_pipeline.providers.http import CredentialsError, Refused
from medscribe_pipeline.providers.ping import ping

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from medscribe_pipeline.providers.http import HttpClient
    from medscribe_pipeline.settings import EhrSettings, Settings
    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["check_remote"]

WARN_SKEW_S, FAIL_SKEW_S = 10.0, 120.0
TIMEOUT_S = 10.0

_NOBODYS_IDENTIFIER = "urn:medscribe-pipeline:doctor|none"
_HEADERS = {"Accept": "application/fhir+json, application/json", "Cache-Control": "no-cache"}


def check_remote(settings: Settings, warehouse: Warehouse, *, clock: Callable[[], datetime]) -> Iterator[Check]:
    """All checks of this room, server after server.

    Args:
        settings: Which servers there are.
        warehouse: Where tokens that are traded for others are kept.
        clock: The current time, aware UTC.
    """
    for name in settings.providers:
        yield from _provider(settings, warehouse, name, clock)
    for target in settings.targets.values():
        yield from _target(settings, target, warehouse, clock)


def _provider(settings: Settings, warehouse: Warehouse, name: str, clock: Callable[[], datetime]) -> Iterator[Check]:
    try:
        server_time = ping(settings, warehouse, name)
    except CredentialsError as error:
        yield of_error(f"provider {name}", error, "Set credentials the provider takes, and mind that they expire")
    except MedscribeError as error:
        yield of_error(f"provider {name}", error, f"Check MEDSCRIBE_{name.upper()}_BASE_URL, the network and its proxy")
    else:
        yield Check(f"provider {name}", Level.OK, "Reachable, and takes our credentials")
        yield from _skew(f"provider {name} clock", server_time, clock)


def _target(
    settings: Settings, target: EhrSettings, warehouse: Warehouse, clock: Callable[[], datetime]
) -> Iterator[Check]:
    name = f"target {target.target}"
    limits = {"max_attempts": 1, "max_wait_s": 0.0, "timeout_s": min(target.timeout_s, TIMEOUT_S)}
    quick = target.model_copy(update=limits)
    try:
        with open_http(quick, warehouse) as http:
            report = probe(http, quick, release=settings.fhir.release)
            if report.problem is not None:
                yield of_error(name, report.problem, "See `medscribe ehr probe`")
                return
            server_time, may_search = _search(http)
    except CredentialsError as error:
        yield of_error(name, error, "Set credentials the server takes; see docs/delivery.md on signing in")
    except MedscribeError as error:
        yield of_error(name, error, f"Check {target.variable('base_url')}, the network and its proxy")
    else:
        says = f"Reachable, FHIR {report.claims.fhir_version or 'of a release it does not say'}"
        told = "takes our credentials" if may_search else "refuses a search, so that credentials prove nothing"
        yield Check(name, Level.OK if may_search else Level.WARN, f"{says}, {told}", "" if may_search else _UNPROVEN)
        yield from _skew(f"{name} clock", server_time, clock)


_UNPROVEN = "See `medscribe ehr selftest` for what the account may do"


def _search(http: HttpClient) -> tuple[datetime | None, bool]:
    """A search that finds nothing: the statement is open to all, what is searched is not. Time, and whether we may."""
    params = [("identifier", _NOBODYS_IDENTIFIER), ("_count", "1")]
    try:
        return http.request("GET", "DocumentReference", params=params, headers=_HEADERS, repeat=True).server_time, True
    except Refused as error:
        return error.answer.server_time, False


def _skew(name: str, server_time: datetime | None, clock: Callable[[], datetime]) -> Iterator[Check]:
    """How far the clocks are apart, as far as the answer tells: it says whole seconds, and was under way for some."""
    if server_time is None:
        return
    apart = abs((clock() - server_time).total_seconds())
    to_do = "Let this machine keep time by NTP: tokens and watermarks depend on it"
    if apart > FAIL_SKEW_S:
        yield Check(name, Level.FAIL, f"Its clock and ours are {apart:.0f} s apart", to_do)
    elif apart > WARN_SKEW_S:
        yield Check(name, Level.WARN, f"Its clock and ours are {apart:.0f} s apart", to_do)
    else:
        yield Check(name, Level.OK, "Its clock and ours agree")
