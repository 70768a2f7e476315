"""What the demo asks of Dagster, over the GraphQL of its web server: what a click in the UI asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from scale.processes import Overdue

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ASSETS", "Dagster", "Run"]

REPOSITORY = {"repositoryLocationName": "medscribe", "repositoryName": "__repository__"}
ASSETS = ("scribe_notes", "fhir_compositions", "fhir_document_references", "ehr_deliveries")
"""The assets of a visit day."""

LAUNCH_JOB = """
mutation ($job: String!, $location: String!, $repository: String!) {
  launchRun(executionParams: {mode: "default", runConfigData: {}, selector: {
    jobName: $job, repositoryLocationName: $location, repositoryName: $repository
  }}) { __typename ... on LaunchRunSuccess { run { runId } } }
}
"""
BACKFILL = """
mutation ($assets: [AssetKeyInput!]!, $days: [String!]!) {
  launchPartitionBackfill(backfillParams: {assetSelection: $assets, partitionNames: $days}) {
    __typename ... on LaunchBackfillSuccess { backfillId }
  }
}
"""
RUNS = """
query ($filter: RunsFilter!) {
  runsOrError(filter: $filter, limit: 500) {
    __typename ... on Runs { results { runId status startTime endTime parentRunId tags { key value } } }
  }
}
"""
STATUS = """
query ($id: String!) { partitionBackfillOrError(backfillId: $id) { __typename ... on PartitionBackfill { status } } }
"""
DAY_TAG = "dagster/asset_partition_range_start"
"""Where a backfill writes which day a run is of: a range of one."""

ENDED = frozenset({"SUCCESS", "FAILURE", "CANCELED"})


@dataclass(frozen=True, slots=True)
class Run:
    """One run: how it stands, when it began and ended (seconds since the epoch), and which it is a retry of."""

    run_id: str
    status: str
    start: float | None
    end: float | None
    parent: str | None
    day: str

    @property
    def ended(self) -> bool:
        """Whether it goes on no more."""
        return self.status in ENDED


class Dagster:
    """A client of the web server.

    Args:
        url: Where it answers.
    """

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=60)

    def close(self) -> None:
        """Gives the connection back."""
        self._http.close()

    def launch(self, job: str) -> str:
        """Asks for a run of a job; returns its id."""
        asked = {
            "job": job,
            "location": REPOSITORY["repositoryLocationName"],
            "repository": REPOSITORY["repositoryName"],
        }
        return str(self._ask(LAUNCH_JOB, "launchRun", "LaunchRunSuccess", asked)["run"]["runId"])

    def backfill(self, days: Sequence[str]) -> str:
        """Asks for a backfill of all assets of these visit days; returns its id."""
        asked = {"assets": [{"path": [name]} for name in ASSETS], "days": list(days)}
        return str(self._ask(BACKFILL, "launchPartitionBackfill", "LaunchBackfillSuccess", asked)["backfillId"])

    def backfill_status(self, backfill: str) -> str:
        """How a backfill stands, in Dagster's word."""
        return str(self._ask(STATUS, "partitionBackfillOrError", "PartitionBackfill", {"id": backfill})["status"])

    def run(self, run_id: str) -> Run:
        """One run."""
        return self._runs({"runIds": [run_id]})[0]

    def runs_of(self, backfill: str) -> list[Run]:
        """The runs of a backfill, retries among them."""
        return self._runs({"tags": [{"key": "dagster/backfill", "value": backfill}]})

    def _runs(self, wanted: dict[str, Any]) -> list[Run]:
        found = self._ask(RUNS, "runsOrError", "Runs", {"filter": wanted})["results"]
        return [_run(each, {tag["key"]: tag["value"] for tag in each["tags"]}) for each in found]

    def _ask(self, query: str, field: str, wanted: str, variables: dict[str, Any]) -> dict[str, Any]:
        answer = self._http.post("/graphql", json={"query": query, "variables": variables}).json()
        told: dict[str, Any] = (answer.get("data") or {}).get(field) or {}
        if told.get("__typename") != wanted:
            raise Overdue(f"Dagster's web server refuses {field}: {told.get('__typename')}")
        return told


def _run(told: dict[str, Any], tags: dict[str, str]) -> Run:
    return Run(
        run_id=told["runId"],
        status=told["status"],
        start=told["startTime"],
        end=told["endTime"],
        parent=told["parentRunId"],
        day=tags.get(DAY_TAG, ""),
    )
