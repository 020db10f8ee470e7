"""CLEANUP: what a sweep found that nobody else will end: things at a provider without a live row, and attempts without a worker.

Metadata: ``workers`` (``[{"worker_id", "provider_id"}]``) and ``executions`` (ids), as the sweep found them; each is looked
at again before anything is done. There is a saga only when a sweep found something.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import structlog

from hodei.ports import Platform
from hodei.providers.contract import ProviderError, as_provider_errors
from hodei.sagas.engine import wake_sagas_of_job
from hodei.sagas.steps import Done, ExternalStep, Saga, SagaType, Step, Wait
from hodei.storage.transaction import Transaction

log = structlog.get_logger(__name__)


class IdentifyUnhealthyWorkers(Step):
    """Which of the things found still have no live row."""

    name = "IdentifyUnhealthyWorkers"

    def apply(self, platform: Platform, tx: Transaction, saga: Saga) -> Done:
        found = {item["worker_id"]: item for item in saga.metadata["workers"]}
        over = {str(row.id) for row in tx.rows("workers_over", ids=[UUID(each) for each in found])}
        return Done(output={"workers": [found[worker_id] for worker_id in found if worker_id in over]})


class IdentifyOrphanedJobs(Step):
    """Which of the attempts found still go on without a worker."""

    name = "IdentifyOrphanedJobs"

    def apply(self, platform: Platform, tx: Transaction, saga: Saga) -> Done:
        found = set(saga.metadata["executions"])
        rows = tx.rows("executions_without_worker", limit=None, lease_s=platform.settings.lease_over_s)
        orphaned = [
            {"execution_id": str(row.id), "job_id": str(row.job_id), "reason": row.termination_reason}
            for row in rows
            if str(row.id) in found
        ]
        return Done(output={"jobs": orphaned})


class CleanupUnhealthyWorkers(ExternalStep):
    """Ends each of them; what its provider cannot end now is left to the next sweep, and holds up no other."""

    name = "CleanupUnhealthyWorkers"

    def act(self, platform: Platform, saga: Saga) -> Done | Wait:
        removed, left = [], []
        for item in saga.outputs[IdentifyUnhealthyWorkers.name]["workers"]:
            try:
                with as_provider_errors():
                    platform.providers.get(UUID(item["provider_id"])).stop(UUID(item["worker_id"]))
                removed.append(item["worker_id"])
                log.warning("orphan.removed", worker_id=item["worker_id"])
            except ProviderError as error:
                left.append({"worker_id": item["worker_id"], "reason": str(error)})
                log.warning("orphan.not_removed", worker_id=item["worker_id"], reason=str(error))
        return Done(output={"removed": removed, "left": left})


class ResetOrphanedJobs(Step):
    """Gives the attempts up, with their cause: each one's EXECUTION undoes it, and the job is tried again or fails."""

    name = "ResetOrphanedJobs"

    def apply(self, platform: Platform, tx: Transaction, saga: Saga) -> Done:
        reset = []
        for item in saga.outputs[IdentifyOrphanedJobs.name]["jobs"]:
            reason = item["reason"] or "no reason given"
            if tx.execute(
                "execution_set_lost",
                id=UUID(item["execution_id"]),
                error_code="ERR_2006",
                error_message=f"The worker was ended before it reported: {reason}",
            ):
                wake_sagas_of_job(platform, tx, UUID(item["job_id"]), "EXECUTION")
                reset.append(item["job_id"])
        return Done(output={"reset": reset})


class PublishCleanupMetrics(Step):
    """Adds what was done to the numbers that ``/api/v1/metrics`` and ``/metrics`` show."""

    name = "PublishCleanupMetrics"

    def apply(self, platform: Platform, tx: Transaction, saga: Saga) -> Done:
        done: dict[str, Any] = {
            "workers_removed": len(saga.outputs[CleanupUnhealthyWorkers.name]["removed"]),
            "workers_left": len(saga.outputs[CleanupUnhealthyWorkers.name]["left"]),
            "jobs_reset": len(saga.outputs[ResetOrphanedJobs.name]["reset"]),
        }
        tx.execute("cleanup_count", **done)
        return Done(output=done)


class Cleanup(SagaType):
    """Removes what was left over."""

    name = "CLEANUP"
    steps = (
        IdentifyUnhealthyWorkers(),
        IdentifyOrphanedJobs(),
        CleanupUnhealthyWorkers(),
        ResetOrphanedJobs(),
        PublishCleanupMetrics(),
    )
