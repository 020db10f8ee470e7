"""Guarded changes: each refuses from every state that the transition tables do not allow, and from every other fence."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID, uuid4

import pytest
from sqlalchemy.exc import IntegrityError
from support.core import Core, fresh_id
from support.core_pipelines import job as node
from support.core_pipelines import run as start
from support.core_saga import DrillGround

from hodei.domain import pipeline, states
from hodei.domain.pipeline import NODE_TRANSITIONS, RUN_TRANSITIONS, NodeState, RunState
from hodei.domain.schedule import ScheduleState
from hodei.domain.states import (
    JOB_ACTIVE,
    JOB_ENDS,
    JOB_TRANSITIONS,
    STEP_TRANSITIONS,
    WORKER_TRANSITIONS,
    JobState,
    SagaState,
    StepState,
    WorkerState,
    sources,
)  # fmt: skip
from hodei.errors import DatabaseUnavailable
from hodei.sagas.audit import Move, advance
from hodei.storage.database import Database
from hodei.storage.transaction import Transaction

FENCE = 4
CHECKS = {
    "jobs_state_check": states.JobState,
    "workers_state_check": states.WorkerState,
    "provider_configs_status_check": states.ProviderStatus,
    "outbox_events_status_check": states.OutboxStatus,
    "sagas_state_check": states.SagaState,
    "saga_steps_state_check": states.StepState,
    "executions_state_check": states.ExecutionState,
    "schedules_state_check": ScheduleState,
    "pipelines_state_check": pipeline.PipelineState,
    "pipeline_runs_state_check": pipeline.RunState,
    "pipeline_nodes_state_check": pipeline.NodeState,
}


@pytest.mark.parametrize("constraint", CHECKS)
def test_the_check_of_a_state_column_holds_the_words_of_its_enum(core: Core, constraint: str) -> None:
    definition = core.sql(
        "SELECT pg_get_constraintdef(oid) AS words FROM pg_constraint WHERE conname = :name", name=constraint
    )[0].words

    assert {word for word in definition.split("'") if word.isidentifier() and word != "text"} == {
        word.value for word in CHECKS[constraint]
    }


def test_every_state_column_has_such_a_check(core: Core) -> None:
    columns = core.sql(
        "SELECT table_name || '_' || column_name || '_check' AS name FROM information_schema.columns "
        "WHERE table_schema IN ('public', 'hodei') AND column_name IN ('state', 'status')"
    )

    assert {row.name for row in columns} - {"image_pulls_state_check"} == set(CHECKS)


JobChange = Callable[[Transaction, UUID, int], int]


def _assign(tx: Transaction, job_id: UUID, fence: int) -> int:
    found = tx.scalar(
        "job_set_assigned_if_waiting", id=job_id, provider_id=None, worker_id=uuid4(), attempt=fence + 1
    )
    return 0 if found is None else 1


def _end(end: JobState) -> JobChange:
    return lambda tx, job_id, fence: tx.execute(
        "job_set_ended", id=job_id, state=end.value, from_states=sources(JOB_TRANSITIONS, end), fence=fence,
        exit_code=1, result={}, started_at=None, error_code=None, error_message=None,
    )  # fmt: skip


JOB_CHANGES: dict[str, tuple[JobState, JobChange, bool]] = {
    "schedule": (
        JobState.SCHEDULED,
        lambda tx, job_id, fence: tx.execute(
            "job_set_scheduled_if_pending", id=job_id, provider_id=None, worker_id=uuid4()
        ),
        False,
    ),
    "assign": (JobState.ASSIGNED, _assign, True),
    "run": (
        JobState.RUNNING,
        lambda tx, job_id, fence: tx.execute("job_set_running_if_assigned", id=job_id, fence=fence),
        True,
    ),
    **{end.value.lower(): (end, _end(end), True) for end in sorted(JOB_ENDS)},
    "retry": (
        JobState.PENDING,
        lambda tx, job_id, fence: tx.execute(
            "job_set_pending_again", id=job_id, from_states=[state.value for state in JOB_ACTIVE], fence=fence,
            delay_s=0, infra=1, user=0, queued_anew=True, error_code=None, error_message=None,
        ),
        True,
    ),
    "execute": (
        JobState.PENDING,
        lambda tx, job_id, fence: tx.execute("job_set_pending_to_execute", id=job_id, spec={}, retries=0),
        False,
    ),
    "retry by hand": (
        JobState.PENDING,
        lambda tx, job_id, fence: tx.execute("job_set_pending_by_hand", id=job_id),
        False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", JOB_CHANGES)
def test_a_job_is_moved_from_legal_states_only(core: Core, name: str) -> None:
    target, change, fenced = JOB_CHANGES[name]
    job_id = core.submit()
    moved = set()
    for state in JobState:
        core.sql(
            "UPDATE jobs SET state = :state, attempts = :fence WHERE id = :id",
            state=state,
            fence=FENCE,
            id=job_id,
        )
        with core.database.begin() as tx:
            for other in (FENCE - 1, FENCE + 1) if fenced else ():
                assert change(tx, job_id, other) == 0, f"{state} with the fence {other}"
            assert change(tx, fresh_id(), FENCE) == 0
            if change(tx, job_id, FENCE):
                moved.add(state)
                assert core.sql("SELECT 1 AS one")
        after = core.job(job_id).state
        assert after == (target if state in moved else state)

    legal = {state for state, targets in JOB_TRANSITIONS.items() if target in targets}
    by_hand = JOB_ENDS - {JobState.SUCCEEDED}
    assert moved == {"retry": JOB_ACTIVE, "retry by hand": by_hand, "execute": JOB_ENDS}.get(name, legal)


@pytest.mark.parametrize("name", ["schedule", "assign"])
def test_a_job_whose_cancel_was_asked_for_is_given_to_nobody(core: Core, name: str) -> None:
    job_id = core.submit()
    core.sql("UPDATE jobs SET cancel_requested_at = now(), attempts = :fence", fence=FENCE)

    with core.database.begin() as tx:
        assert JOB_CHANGES[name][1](tx, job_id, FENCE) == 0


WORKER_CHANGES: dict[str, tuple[WorkerState, Callable[[Transaction, UUID], object], set[WorkerState]]] = {
    "infrastructure": (
        WorkerState.CONNECTING,
        lambda tx, worker: tx.execute("worker_set_infrastructure", id=worker, resource_id="x"),
        {WorkerState.CREATING},
    ),
    "ready": (
        WorkerState.READY,
        lambda tx, worker: tx.execute("worker_set_ready_if_connecting", id=worker),
        {WorkerState.CREATING, WorkerState.CONNECTING},
    ),
    "draining": (
        WorkerState.DRAINING,
        lambda tx, worker: tx.execute("worker_set_draining_if_busy", id=worker),
        {WorkerState.BUSY},
    ),
    "free": (
        WorkerState.READY,
        lambda tx, worker: tx.execute("worker_set_ready_if_busy", id=worker, job_id=worker),
        {WorkerState.BUSY},
    ),
    "busy": (
        WorkerState.BUSY,
        lambda tx, worker: tx.execute("worker_set_busy_if_ready", id=worker, job_id=uuid4()),
        {WorkerState.READY},
    ),
    "terminating": (
        WorkerState.TERMINATING,
        lambda tx, worker: tx.scalar("worker_set_terminating", id=worker, destroy_in_s=0.0, reason="t"),
        {state for state, targets in WORKER_TRANSITIONS.items() if WorkerState.TERMINATING in targets},
    ),
    "terminated": (
        WorkerState.TERMINATED,
        lambda tx, worker: tx.scalar("worker_set_terminated", id=worker, reason="t"),
        {state for state, targets in WORKER_TRANSITIONS.items() if WorkerState.TERMINATED in targets},
    ),
}


@pytest.mark.parametrize("name", WORKER_CHANGES)
def test_a_worker_is_moved_from_legal_states_only(core: Core, name: str) -> None:
    target, change, expected = WORKER_CHANGES[name]
    provider_id = core.provider("here")
    moved = set()
    for state in WorkerState:
        worker_id = uuid4()
        core.sql(
            "INSERT INTO workers (id, provider_id, provider_type, state, max_jobs, registered_at, current_job_id)"
            " VALUES (:id, :provider, 'fake', :state, 0, now(), :id)",
            id=worker_id, provider=provider_id, state=state,
        )  # fmt: skip
        with core.database.begin() as tx:
            change(tx, worker_id)
        after = core.worker(worker_id).state
        assert after in (state, target)
        if after != state:
            moved.add(state)

    assert moved == expected
    assert all(target in WORKER_TRANSITIONS[state] for state in moved)


def test_a_busy_worker_of_one_job_never_becomes_free_again(core: Core) -> None:
    job_id, worker_id = _busy(core)

    with core.database.begin() as tx:
        assert tx.execute("worker_set_ready_if_busy", id=worker_id, job_id=job_id) == 0


def _busy(core: Core) -> tuple[UUID, UUID]:
    core.provider("here")
    return core.to_running_worker("here")


def test_a_reserved_worker_takes_no_other_job(core: Core) -> None:
    core.provider("here")
    job_id = core.submit("here")
    core.drain()
    worker_id = core.job(job_id).worker_id
    core.sql(
        "UPDATE workers SET state = 'READY', reserved_for = :job WHERE id = :id", job=job_id, id=worker_id
    )

    with core.database.begin() as tx:
        assert tx.execute("worker_reserve", id=worker_id, job_id=uuid4()) == 0
        assert tx.execute("worker_set_busy_if_ready", id=worker_id, job_id=uuid4()) == 0
        assert tx.execute("worker_set_busy_if_ready", id=worker_id, job_id=job_id) == 1


def test_terminating_a_worker_twice_gives_one_place_back(core: Core) -> None:
    # given
    _, worker_id = _busy(core)
    provider_id = core.worker(worker_id).provider_id
    other, _ = core.to_running_worker("here")
    assert core.places_taken(provider_id) == 2

    # when
    for _ in range(3):
        with core.database.begin() as tx:
            tx.scalar("worker_set_terminated", id=worker_id, reason="t")

    # then
    assert core.places_taken(provider_id) == 1
    assert core.job(other).state == "ASSIGNED"


AT_ONCE = {
    (StepState.PENDING, StepState.COMPLETED),
    (StepState.PENDING, StepState.FAILED),
    (StepState.COMPLETED, StepState.COMPENSATED),
    (StepState.FAILED, StepState.COMPENSATED),
}
"""Moves through two states in one transaction."""


@pytest.mark.parametrize("state", list(StepState))
def test_a_step_is_moved_from_legal_states_only(core: Core, state: StepState) -> None:
    drill = DrillGround(core)
    drill.start()
    for target in StepState:
        core.sql("UPDATE saga_steps SET state = :state WHERE step_name = 'Write'", state=state)
        with core.database.begin() as tx:
            move = Move(step_name="Write", state=target)
            advance(tx, drill.saga_id, SagaState.IN_PROGRESS, move=move)
        legal = target in STEP_TRANSITIONS[state] or target == state or (state, target) in AT_ONCE
        assert drill.steps()["Write"] == (target if legal else state)


def test_a_job_has_one_live_execution_at_most(core: Core) -> None:
    job_id, worker_id = _busy(core)

    with pytest.raises(IntegrityError, match="executions_one_live"), core.database.begin() as tx:
        tx.execute(
            "execution_insert",
            id=fresh_id(),
            job_id=job_id,
            attempt=2,
            worker_id=worker_id,
            saga_id=None,
            command="x",
        )


@pytest.mark.parametrize("state", ["completed", "failed", "cancelled", "timeout", "lost"])
def test_an_execution_that_has_ended_is_not_moved_again(core: Core, state: str) -> None:
    _busy(core)
    execution = core.sql("UPDATE hodei.executions SET state = :state RETURNING *", state=state)[0]

    with core.database.begin() as tx:
        assert tx.execute("execution_set_accepted", id=execution.id, fence=1) == 0
        assert tx.execute("execution_set_running_if_pending", id=execution.id, fence=1) == 0
        assert (
            tx.execute("execution_set_lost", id=execution.id, error_code="ERR_2006", error_message="x") == 0
        )
        assert tx.execute(
            "execution_set_reported", id=execution.id, fence=1, result={}, exit_code=0, signal=None,
            error_code=None, error_message=None,
        ) == 0  # fmt: skip
        assert tx.execute(
            "execution_set_ended", id=execution.id, state="completed", log_complete=True, error_code=None,
            error_message=None,
        ) == 0  # fmt: skip


NODE_CHANGES: dict[str, tuple[NodeState, Callable[[Transaction, UUID], object]]] = {
    "ready": (NodeState.READY, lambda tx, run: tx.execute("nodes_set_ready", run_id=run, numbers=[0])),
    "skipped": (
        NodeState.SKIPPED,
        lambda tx, run: tx.execute("nodes_set_skipped", run_id=run, numbers=[0], reasons=["t"]),
    ),
    "submitted": (
        NodeState.SUBMITTED,
        lambda tx, run: tx.execute("nodes_set_submitted", run_id=run, numbers=[0], job_ids=[uuid4()]),
    ),
    "refused": (
        NodeState.FAILED,
        lambda tx, run: tx.execute("nodes_set_refused", run_id=run, numbers=[0], reasons=["t"]),
    ),
    "deleted": (NodeState.FAILED, lambda tx, run: tx.rows("nodes_settle", run_id=run)),
    "cancelled": (NodeState.CANCELLED, lambda tx, run: tx.execute("nodes_set_cancelled", run_id=run)),
    "again": (NodeState.WAITING, lambda tx, run: tx.execute("nodes_set_waiting_again", run_id=run)),
}


@pytest.mark.parametrize("name", NODE_CHANGES)
def test_a_node_of_a_pipelines_run_is_moved_from_legal_states_only(core: Core, name: str) -> None:
    core.provider("a")
    run_id = start(core, node("a"))
    target, change = NODE_CHANGES[name]
    moved = set()
    for state in NodeState:
        core.sql("UPDATE hodei.pipeline_nodes SET state = :state, job_id = NULL", state=state)
        with core.database.begin() as tx:
            change(tx, run_id)
        after = core.sql("SELECT state FROM hodei.pipeline_nodes")[0].state
        assert after in (state, target)
        if after != state:
            moved.add(state)

    assert moved
    assert all(target in NODE_TRANSITIONS[state] for state in moved)


@pytest.mark.parametrize("target", list(RunState))
def test_a_run_of_a_pipeline_is_moved_from_legal_states_only(core: Core, target: RunState) -> None:
    core.provider("a")
    run_id = start(core, node("a"))
    moved = set()
    for state in RunState:
        core.sql(
            "UPDATE hodei.pipeline_runs SET state = CAST(:state AS text),"
            " completed_at = CASE WHEN CAST(:state AS text) = 'RUNNING' THEN NULL ELSE now() END",
            state=state,
        )
        with core.database.begin() as tx:
            changed = (
                tx.execute("run_set_running_again", id=run_id)
                if target is RunState.RUNNING
                else tx.execute(
                    "run_set_ended", id=run_id, state=target, from_states=sources(RUN_TRANSITIONS, target)
                )
            )
        if changed:
            moved.add(state)

    assert moved == {state for state, targets in RUN_TRANSITIONS.items() if target in targets}


def test_effects_of_a_commit_happen_after_it_and_never_of_a_rollback(core: Core) -> None:
    # given
    seen = []

    def look() -> None:
        seen.append(len(core.sql("SELECT 1 FROM provider_configs")))

    # when
    with core.database.begin() as tx:
        tx.after_commit(look)
        tx.after_commit(lambda: 1 / 0)
        tx.after_commit(look)
        core_insert(tx)
        assert seen == []

    # then both ran, though one between them failed
    assert seen == [1, 1]

    # when
    with pytest.raises(RuntimeError), core.database.begin() as tx:
        tx.after_commit(look)
        raise RuntimeError

    # then
    assert seen == [1, 1]


def core_insert(tx: Transaction) -> None:
    tx.execute(
        "provider_upsert_builtin",
        id=uuid4(),
        name="x",
        provider_type="fake",
        config={},
        priority=0,
        max_workers=1,
    )


def test_a_database_that_is_away_is_one_sentence(core: Core) -> None:
    database = Database("postgresql+psycopg2://nobody:secret-word@127.0.0.1:1/none")

    with pytest.raises(DatabaseUnavailable) as caught:
        database.ping()

    assert caught.value.status == 503
    assert "Check that Postgres runs and that HODEI_DATABASE_URL is right." in caught.value.message
    assert "\n" not in caught.value.message
    assert "secret-word" not in caught.value.message
    database.close()
