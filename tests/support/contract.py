"""Names that the contract fixes, written down once more, apart from the code that is held against them."""

from __future__ import annotations

PUBLIC_TABLES = [
    "domain_events",
    "job_log_files",
    "jobs",
    "outbox_events",
    "provider_configs",
    "saga_audit_events",
    "saga_steps",
    "sagas",
    "workers",
]
SAGA_STEPS = {
    "PROVISIONING": [
        "ValidateProviderCapacity",
        "RegisterWorker",
        "CreateInfrastructure",
        "PublishProvisionedEvent",
    ],
    "EXECUTION": ["ValidateJob", "AssignWorker", "ExecuteJob", "CompleteJob"],
    "CANCELLATION": ["ValidateCancellation", "NotifyWorker", "UpdateJobState", "ReleaseWorker"],
    "TIMEOUT": ["ValidateTimeout", "TerminateWorker", "MarkJobFailed", "ReleaseWorker"],
    "RECOVERY": [
        "CheckWorkerConnectivity",
        "TerminateOldWorker",
        "ProvisionNewWorker",
        "TransferJob",
        "CancelOldWorker",
    ],
    "CLEANUP": [
        "IdentifyUnhealthyWorkers",
        "IdentifyOrphanedJobs",
        "CleanupUnhealthyWorkers",
        "ResetOrphanedJobs",
        "PublishCleanupMetrics",
    ],
}
SAGAS_OF_A_JOB = ("PROVISIONING", "EXECUTION")
"""Of one that ended in its first attempt, on a worker made for it."""
