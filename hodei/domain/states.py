"""The states of jobs, executions, workers, providers and sagas, and who moves them.

The names and the job codes are part of the contract; the transition tables are the only place where a legal move is
written down (``tests/unit/test_states.py`` compares them with the CHECK constraints and the guarded queries).
"""

from __future__ import annotations

from enum import StrEnum


class JobState(StrEnum):
    """Where a job is. PENDING → SCHEDULED → ASSIGNED → RUNNING → an end; a READY worker skips SCHEDULED.

    The order of the words here is that of the codes, which scripts rely on; it is not the order of a job's life.
    """

    PENDING = "PENDING"  # put there by submit, and by a retry; taken by dispatch, ended by cancel or the queue time-out
    ASSIGNED = "ASSIGNED"  # EXECUTION's AssignWorker gave it to a live worker; watched by the start deadline
    SCHEDULED = "SCHEDULED"  # dispatch chose a provider and a worker is made; ended by the provisioning saga's undoing
    RUNNING = "RUNNING"  # the agent said that it started; watched by lease, time-outs and RECOVERY
    SUCCEEDED = "SUCCEEDED"  # CompleteJob, exit code 0
    FAILED = "FAILED"  # CompleteJob with another result, or an undone saga whose retries are used up
    CANCELLED = "CANCELLED"  # the worker confirmed, or is confirmed gone
    TIMEOUT = "TIMEOUT"  # the run time-out, by the agent or by the clock

    @property
    def code(self) -> int:
        """The number that scripts know the state by (0 PENDING … 7 TIMEOUT)."""
        return _JOB_CODES[self]

    @property
    def is_terminal(self) -> bool:
        return self in JOB_ENDS


_JOB_CODES = {state: code for code, state in enumerate(JobState)}

JOB_ENDS = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.TIMEOUT})
JOB_ACTIVE = frozenset({JobState.SCHEDULED, JobState.ASSIGNED, JobState.RUNNING})

JOB_TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    JobState.PENDING: frozenset(
        {JobState.SCHEDULED, JobState.ASSIGNED, JobState.CANCELLED, JobState.FAILED, JobState.TIMEOUT}
    ),
    JobState.SCHEDULED: frozenset(
        {JobState.ASSIGNED, JobState.PENDING, JobState.FAILED, JobState.CANCELLED, JobState.TIMEOUT}
    ),
    JobState.ASSIGNED: frozenset(
        {
            JobState.RUNNING,
            JobState.PENDING,
            JobState.SUCCEEDED,
            JobState.FAILED,
            JobState.CANCELLED,
            JobState.TIMEOUT,
        }
    ),
    JobState.RUNNING: frozenset(
        {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.TIMEOUT, JobState.PENDING}
    ),
    JobState.SUCCEEDED: frozenset({JobState.PENDING}),  # executed again by a person; never a retry
    JobState.FAILED: frozenset({JobState.PENDING}),  # `job retry` by a person
    JobState.CANCELLED: frozenset({JobState.PENDING}),
    JobState.TIMEOUT: frozenset({JobState.PENDING}),
}


class ExecutionState(StrEnum):
    """One attempt of a job. At most one of a job is pending or running (a partial unique index says so)."""

    PENDING = "pending"  # AssignWorker made it; the agent has not accepted it yet
    RUNNING = "running"  # the agent accepted it
    COMPLETED = "completed"  # ended with exit code 0
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    LOST = "lost"  # its worker is gone, or its lease ran out


EXECUTION_LIVE = frozenset({ExecutionState.PENDING, ExecutionState.RUNNING})

EXECUTION_TRANSITIONS: dict[ExecutionState, frozenset[ExecutionState]] = {
    ExecutionState.PENDING: frozenset(set(ExecutionState) - {ExecutionState.PENDING}),
    ExecutionState.RUNNING: frozenset(set(ExecutionState) - {ExecutionState.PENDING, ExecutionState.RUNNING}),
    ExecutionState.COMPLETED: frozenset(),
    ExecutionState.FAILED: frozenset(),
    ExecutionState.CANCELLED: frozenset(),
    ExecutionState.TIMEOUT: frozenset(),
    ExecutionState.LOST: frozenset(),
}


class WorkerState(StrEnum):
    """Where a worker is. READY means that its inbox was polled, not merely that its process was started."""

    CREATING = "CREATING"  # RegisterWorker wrote its row, name and token; its container does not exist yet
    CONNECTING = (
        "CONNECTING"  # CreateInfrastructure started it, or a self-hosted one is away; its inbox is not open
    )
    READY = "READY"  # its inbox is open and it has no job
    BUSY = "BUSY"  # AssignWorker gave it one
    DRAINING = "DRAINING"  # takes no new job, leaves when idle
    TERMINATING = "TERMINATING"  # to be destroyed: CompleteJob, an undoing, stop or the reconciler said so
    TERMINATED = "TERMINATED"  # the provider confirmed that nothing of it is left


WORKER_LIVE = frozenset(set(WorkerState) - {WorkerState.TERMINATED})

WORKER_TRANSITIONS: dict[WorkerState, frozenset[WorkerState]] = {
    WorkerState.CREATING: frozenset(
        {WorkerState.CONNECTING, WorkerState.READY, WorkerState.TERMINATING, WorkerState.TERMINATED}
    ),
    WorkerState.CONNECTING: frozenset({WorkerState.READY, WorkerState.TERMINATING, WorkerState.TERMINATED}),
    # A self-hosted worker whose agent went away goes back to CONNECTING: it may come back.
    WorkerState.READY: frozenset(
        {
            WorkerState.CONNECTING,
            WorkerState.BUSY,
            WorkerState.DRAINING,
            WorkerState.TERMINATING,
            WorkerState.TERMINATED,
        }
    ),
    WorkerState.BUSY: frozenset(
        {
            WorkerState.CONNECTING,
            WorkerState.READY,
            WorkerState.DRAINING,
            WorkerState.TERMINATING,
            WorkerState.TERMINATED,
        }
    ),
    WorkerState.DRAINING: frozenset({WorkerState.TERMINATING, WorkerState.TERMINATED}),
    WorkerState.TERMINATING: frozenset({WorkerState.TERMINATED}),
    WorkerState.TERMINATED: frozenset(),
}


class ProviderStatus(StrEnum):
    """Whether a provider takes new work; set by its health checks and by operators."""

    ACTIVE = "ACTIVE"
    MAINTENANCE = "MAINTENANCE"
    DISABLED = "DISABLED"
    OVERLOADED = "OVERLOADED"
    UNHEALTHY = "UNHEALTHY"
    DEGRADED = "DEGRADED"


class SagaState(StrEnum):
    """Where a saga is. COMPLETED: it did what it is for; fully undone is FAILED with ``metadata.outcome``."""

    PENDING = "PENDING"
    IN_PROGRESS = "IN_PROGRESS"
    COMPENSATING = "COMPENSATING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


SAGA_OPEN = frozenset({SagaState.PENDING, SagaState.IN_PROGRESS, SagaState.COMPENSATING})

SAGA_TRANSITIONS: dict[SagaState, frozenset[SagaState]] = {
    SagaState.PENDING: frozenset({SagaState.IN_PROGRESS, SagaState.COMPENSATING, SagaState.CANCELLED}),
    SagaState.IN_PROGRESS: frozenset({SagaState.COMPLETED, SagaState.COMPENSATING}),
    SagaState.COMPENSATING: frozenset({SagaState.FAILED, SagaState.CANCELLED}),
    SagaState.COMPLETED: frozenset(),
    SagaState.FAILED: frozenset(),
    SagaState.CANCELLED: frozenset(),
}


class StepState(StrEnum):
    """Where a step of a saga is; moved by the saga engine alone."""

    PENDING = "PENDING"
    IN_PROGRESS = "IN_PROGRESS"  # being done, or waiting for what it waits for
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    COMPENSATING = "COMPENSATING"
    COMPENSATED = "COMPENSATED"


STEP_TRANSITIONS: dict[StepState, frozenset[StepState]] = {
    StepState.PENDING: frozenset({StepState.IN_PROGRESS}),
    StepState.IN_PROGRESS: frozenset({StepState.COMPLETED, StepState.FAILED}),
    StepState.COMPLETED: frozenset({StepState.COMPENSATING}),
    StepState.FAILED: frozenset({StepState.COMPENSATING}),
    StepState.COMPENSATING: frozenset({StepState.COMPENSATED}),
    StepState.COMPENSATED: frozenset(),
}


class OutboxStatus(StrEnum):
    """Whether an event was handed to the broker. FAILED rows are kept for a person to look at."""

    PENDING = "PENDING"
    PUBLISHED = "PUBLISHED"
    FAILED = "FAILED"


def sources(transitions: dict, target: StrEnum) -> list[str]:
    """The states from which ``target`` may be reached: what a guarded update puts after ``state = ANY``."""
    return [state.value for state, targets in transitions.items() if target in targets]
