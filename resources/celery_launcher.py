"""Runs as tasks of Celery workers, for several machines without Kubernetes. Needs the extra `celery`.

`dagster_celery` sends runs to workers and asks Celery how they are. Celery only knows what a worker wrote: that it
began. A worker that lost its machine writes nothing any more, so its run would count as running until its longest time
is over. The launcher here asks the worker itself.
"""

from celery import states
from dagster import DagsterRun
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster_celery.launcher import CeleryRunLauncher
from dagster_celery.tags import DAGSTER_CELERY_TASK_ID_TAG

PING_TIMEOUT_S = 5.0
PINGS = 2
"""A worker answers within milliseconds, whatever its tasks do: they are in processes of their own."""


class LivingWorkersLauncher(CeleryRunLauncher):
    """Finds out when a worker is gone, so that run monitoring ends its run, and the run is tried again."""

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """How the worker of a run is: what Celery knows, and for a task that has begun what the worker says itself."""
        known: CheckRunHealthResult = super().check_run_worker_health(run)
        if known.status is not WorkerStatus.RUNNING:
            return known
        task = self.celery.AsyncResult(run.tags[DAGSTER_CELERY_TASK_ID_TAG])
        meta = task.backend.get_task_meta(task.id, cache=False)
        # Since it was asked first the task may have ended: then its state says it, the next time.
        if meta["status"] != states.STARTED or self._answers(meta["result"]["hostname"]):
            return known
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "The Celery worker of the run does not answer any more.")

    def _answers(self, worker: str) -> bool:
        return any(self.celery.control.ping([worker], timeout=PING_TIMEOUT_S) for _ in range(PINGS))
