"""A server that is tried: what a self-test of it is run with, and how its report is read."""

from __future__ import annotations

import contextlib
import threading
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from medscribe_pipeline.ehr.client import FhirClient
from medscribe_pipeline.ehr.selftest import Finding, People, SelftestReport, selftest
from medscribe_pipeline.providers.http import BearerToken, HttpClient
from medscribe_pipeline.settings import EhrSettings, FhirSettings
from tests.medscribe_pipeline.ehr.odd_ehr import OddEhr

if TYPE_CHECKING:
    from pathlib import Path

    from tests.medscribe_pipeline.ehr.odd_ehr import Resource


PATIENT = People(("urn:example:patients", "synthetic-test-patient"))
UNCONDITIONAL = {"strategy": "unconditional", "conditional_create": False}
KEYED = {"strategy": "single", "conditional_create": False, "idempotency_header": "x-key"}


class LateEhr(OddEhr):
    """Its searches find a document when it was asked after a few times; its conditions know it at once."""

    def __init__(self, questions: int) -> None:
        super().__init__()
        self.questions = questions
        self.asked: dict[str, int] = {}
        self.is_creating = False

    def create(
        self, kind: str, resource: Resource, condition: str | None, key: str | None = None
    ) -> tuple[int, Resource]:
        with self.lock:
            self.is_creating = True
            try:
                return super().create(kind, resource, condition, key)
            finally:
                self.is_creating = False

    def find(self, kind: str, token: str) -> list[Resource]:
        if self.is_creating:
            return super().find(kind, token)
        self.asked[token] = self.asked.get(token, 0) + 1
        return super().find(kind, token) if self.asked[token] > self.questions else []


class RacingEhr(OddEhr):
    """Looks for what a condition names, and writes a moment later: two at once both find nothing."""

    def create(
        self, kind: str, resource: Resource, condition: str | None, key: str | None = None
    ) -> tuple[int, Resource]:
        found = self.find(kind, f"{(note := resource['identifier'])[0]['system']}|{note[0]['value']}")
        if not found:
            with contextlib.suppress(threading.BrokenBarrierError):
                self.together.wait(0.2)
            if self.together.broken:
                self.together.reset()
        return super().create(kind, resource, condition if found else None, key)

    together = threading.Barrier(2)


@dataclass
class Trial:
    """A server that is tried, and what is to be known of the trial."""

    url: str
    folder: Path
    token: str | None = None
    waits: list[float] = field(default_factory=list)

    def run(self, *, people: People = PATIENT, run_id: str = "r1", two: bool = False, **changes: Any) -> SelftestReport:
        """Runs the self-test under these settings; of `own`, capabilities of the operator's own."""
        own = changes.pop("own", {})
        ehr = EhrSettings(base_url=self.url, max_attempts=1, capabilities=self.file(own) if own else None, **changes)
        auth = BearerToken(self.token, "token") if self.token else None
        with HttpClient("ehr", self.url, ehr, auth) as http:
            return selftest(
                FhirClient(http),
                ehr,
                FhirSettings(),
                run_id=run_id,
                people=people,
                may_leave_two=two,
                sleep=self.waits.append,
            )

    def file(self, own: dict[str, Any]) -> Path:
        """The same as a file of capabilities."""
        path = self.folder / "capabilities.toml"
        shown = {name: str(value).lower() if isinstance(value, bool) else repr(value) for name, value in own.items()}
        path.write_text("".join(f"{name} = {value}\n" for name, value in shown.items()))
        return path


def states(report: SelftestReport) -> dict[str, str]:
    return {each.code: each.state for each in report.findings}


def finding(report: SelftestReport, code: str) -> Finding:
    return next(each for each in report.findings if each.code == code)


def advice(report: SelftestReport) -> dict[str, Any]:
    return tomllib.loads("\n".join(report.lines()))


def statuses(server: OddEhr) -> set[str]:
    return {each["status"] for kind in ("Composition", "DocumentReference") for each in server.newest(kind)}


def place_patient(odd: OddEhr, server_id: str = "p1") -> None:
    resource = {
        "resourceType": "Patient",
        "id": server_id,
        "identifier": [{"system": "urn:example:patients", "value": "synthetic-test-patient"}],
        "meta": {"versionId": "1"},
    }
    odd.store["Patient", server_id] = [resource]
