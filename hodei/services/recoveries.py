"""Starting the RECOVERY of an attempt whose worker was lost."""

from __future__ import annotations

from hodei.domain.causes import Failure
from hodei.domain.ids import saga_id
from hodei.ports import Platform
from hodei.sagas.registry import engine
from hodei.storage.transaction import Row, Transaction

ACTOR = "clock"


def recover(platform: Platform, tx: Transaction, worker: Row, execution: Row, failure: Failure) -> bool:
    """One saga for each loss of an attempt, however often it is noticed; False when it was started before."""
    return engine(platform).start(
        tx,
        "RECOVERY",
        saga_id=saga_id("RECOVERY", execution.job_id, execution.attempt, execution.recovered_before),
        subject_id=execution.id,
        correlation_id=execution.job_id,
        actor=ACTOR,
        metadata={
            "job_id": str(execution.job_id),
            "attempt": execution.attempt,
            "execution_id": str(execution.id),
            "worker_id": str(worker.id),
            "provider_id": str(worker.provider_id),
            "error_code": failure.code,
            "error_message": failure.message,
        },
    )
