"""The domain: states, causes, retries, definitions, ids."""

from __future__ import annotations

import json
import random
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodei.domain import ids, retry
from hodei.domain.causes import CAUSES, Failure, Severity
from hodei.domain.job import INFRASTRUCTURE_RETRIES, JobSpec, Timeouts, assignment_command
from hodei.domain.retry import NO_PLACE, End, Payer, Retry, decide
from hodei.domain.states import (
    EXECUTION_LIVE,
    EXECUTION_TRANSITIONS,
    JOB_ACTIVE,
    JOB_ENDS,
    JOB_TRANSITIONS,
    SAGA_OPEN,
    SAGA_TRANSITIONS,
    STEP_TRANSITIONS,
    WORKER_LIVE,
    WORKER_TRANSITIONS,
    JobState,
    SagaState,
    StepState,
    WorkerState,
    sources,
)  # fmt: skip

TABLES = [JOB_TRANSITIONS, EXECUTION_TRANSITIONS, WORKER_TRANSITIONS, SAGA_TRANSITIONS, STEP_TRANSITIONS]


def test_jobs_have_the_codes_that_scripts_know() -> None:
    assert {state.value: state.code for state in JobState} == {
        "PENDING": 0, "ASSIGNED": 1, "SCHEDULED": 2, "RUNNING": 3, "SUCCEEDED": 4, "FAILED": 5, "CANCELLED": 6, "TIMEOUT": 7,
    }  # fmt: skip


@pytest.mark.parametrize("table", TABLES)
def test_a_transition_table_names_every_state_and_no_state_leads_to_itself(table: dict) -> None:
    enum = type(next(iter(table)))
    assert set(table) == set(enum)
    assert all(state not in targets for state, targets in table.items())
    assert all(sources(table, target) == [s.value for s in table if target in table[s]] for target in enum)


@pytest.mark.parametrize("table", TABLES)
def test_every_state_can_be_reached_and_every_state_can_end(table: dict) -> None:
    first = next(iter(table))

    def reached(start: object) -> set:
        seen, ahead = {start}, [start]
        while ahead:
            for following in table[ahead.pop()] - seen:
                seen.add(following)
                ahead.append(following)
        return seen

    ends = {state for state, targets in table.items() if not targets} or JOB_ENDS
    if table is JOB_TRANSITIONS:
        ends = JOB_ENDS
    assert reached(first) == set(table)
    assert all(reached(state) & ends for state in table)


def test_the_sets_of_states_are_what_they_are_called() -> None:
    assert {state for state, targets in JOB_TRANSITIONS.items() if targets <= {JobState.PENDING}} == JOB_ENDS
    assert {state for state in JobState if state.is_terminal} == JOB_ENDS
    assert set(JobState) - JOB_ENDS - {JobState.PENDING} == JOB_ACTIVE
    assert {state for state, targets in EXECUTION_TRANSITIONS.items() if targets} == EXECUTION_LIVE
    assert {state for state, targets in WORKER_TRANSITIONS.items() if targets} == WORKER_LIVE
    assert {state for state, targets in SAGA_TRANSITIONS.items() if targets} == SAGA_OPEN


def test_a_job_runs_only_once_a_worker_has_it_and_a_worker_never_comes_back() -> None:
    assert sources(JOB_TRANSITIONS, JobState.RUNNING) == ["ASSIGNED"]
    assert sources(WORKER_TRANSITIONS, WorkerState.BUSY) == ["READY"]
    assert WORKER_TRANSITIONS[WorkerState.TERMINATING] == {WorkerState.TERMINATED}
    assert sources(SAGA_TRANSITIONS, SagaState.COMPLETED) == ["IN_PROGRESS"]
    assert sources(STEP_TRANSITIONS, StepState.COMPENSATED) == ["COMPENSATING"]


def test_the_causes_are_those_of_the_contract() -> None:
    wanted = [
        *range(1001, 1017),
        *range(2001, 2007),
        *range(3001, 3011),
        *range(4001, 4007),
        *range(5001, 5009),
    ]

    assert list(CAUSES) == [f"ERR_{number}" for number in wanted]
    assert all(cause.code == code and cause.title and cause.actions for code, cause in CAUSES.items())
    assert {cause.severity for cause in CAUSES.values()} == set(Severity)


def test_a_failure_has_a_known_code() -> None:
    with pytest.raises(ValueError, match="ERR_9999 is not a known cause"):
        Failure(code="ERR_9999", message="x")


failures = st.sampled_from(sorted(CAUSES)).map(lambda code: Failure(code=code, message="x"))


@given(
    failure=st.none() | failures,
    exit_code=st.none() | st.integers(0, 255),
    end=st.sampled_from(sorted(JOB_ENDS)),
    retries=st.integers(0, 5),
    left=st.integers(0, 5),
    used=st.integers(0, 6),
    retry_on=st.lists(st.integers(0, 255), max_size=3),
)
def test_a_retry_is_paid_by_who_caused_it_and_never_beyond_its_budget(
    failure: Failure | None,
    exit_code: int | None,
    end: JobState,
    retries: int,
    left: int,
    used: int,
    retry_on: list[int],
) -> None:
    left = min(left, retries)
    spec = JobSpec(command="x", retries=retries, retry_on=tuple(retry_on))

    decision = decide(
        spec, failure=failure, exit_code=exit_code, end=end, user_retries_left=left, infra_retries_used=used
    )

    if isinstance(decision, End):
        assert decision.state == end
        return
    assert end in (JobState.FAILED, JobState.TIMEOUT)
    assert failure is not None
    assert failure.code != "ERR_1014"
    if failure.code in NO_PLACE:
        assert decision.paid_by is Payer.NOBODY
    elif failure.cause.severity is Severity.USER:
        assert decision.paid_by is Payer.USER
        assert left > 0
        assert not retry_on or exit_code in retry_on
    else:
        assert decision.paid_by is Payer.INFRASTRUCTURE
        assert used < INFRASTRUCTURE_RETRIES
    assert 0.5 <= decision.delay_s <= 60


@pytest.mark.parametrize(
    ("code", "exit_code", "spec", "left", "used", "paid_by"),
    [
        ("ERR_1007", 3, JobSpec(command="x", retries=1), 1, 0, Payer.USER),
        ("ERR_1007", 3, JobSpec(command="x", retries=1), 0, 0, None),
        ("ERR_1007", 3, JobSpec(command="x"), 0, 0, None),
        ("ERR_1007", 3, JobSpec(command="x", retries=1, retry_on=(3,)), 1, 0, Payer.USER),
        ("ERR_1007", 4, JobSpec(command="x", retries=1, retry_on=(3,)), 1, 0, None),
        ("ERR_2006", None, JobSpec(command="x"), 0, 2, Payer.INFRASTRUCTURE),
        ("ERR_2006", None, JobSpec(command="x", retries=5), 5, 3, None),
        ("ERR_1014", None, JobSpec(command="x", retries=5), 5, 0, None),
        ("ERR_4003", None, JobSpec(command="x"), 0, INFRASTRUCTURE_RETRIES, Payer.NOBODY),
        ("ERR_4004", None, JobSpec(command="x", retries=1), 1, 0, Payer.NOBODY),
    ],
)
def test_what_follows_an_attempt(
    code: str, exit_code: int | None, spec: JobSpec, left: int, used: int, paid_by: Payer | None
) -> None:
    decision = decide(
        spec, failure=Failure(code=code, message="x"), exit_code=exit_code, end=JobState.FAILED,
        user_retries_left=left, infra_retries_used=used,
    )  # fmt: skip

    assert (decision.paid_by if isinstance(decision, Retry) else None) is paid_by


@given(nth=st.integers(0, 10_000), seed=st.integers())
def test_the_back_off_grows_to_a_minute_and_keeps_apart(nth: int, seed: int) -> None:
    found = retry.delay(nth, draw=random.Random(seed))

    ceiling = min(60.0, 2.0 ** min(max(0, nth - 1), 10))
    assert ceiling / 2 <= found <= ceiling


words = st.text(max_size=8)
seconds = st.floats(0.1, 1e6)
specs = st.builds(
    JobSpec,
    command=st.none() | words,
    script=st.none() | words,
    args=st.none() | st.lists(words, max_size=3).map(tuple),
    image=st.none() | words,
    env=st.dictionaries(words, words, max_size=3),
    secret_names=st.lists(words, max_size=3).map(tuple),
    cpu=st.none() | seconds,
    memory_bytes=st.none() | st.integers(0, 2**60),
    timeout_s=st.none() | seconds,
    retries=st.integers(0, 9),
    retry_on=st.lists(st.integers(0, 255), max_size=3).map(tuple),
    timeouts=st.builds(Timeouts, queue_s=seconds, idle_s=st.none() | seconds),
)


@given(spec=specs)
def test_a_definition_comes_back_from_its_document_as_it_was(spec: JobSpec) -> None:
    document = json.loads(json.dumps(spec.to_json()))

    assert JobSpec.from_json(document) == spec
    assert JobSpec.from_json(document | {"of_a_later_version": 1}) == spec


def test_an_older_document_gets_the_defaults() -> None:
    assert JobSpec.from_json({"command": "x"}) == JobSpec(command="x")
    assert JobSpec.from_json({}).is_held


@given(spec=specs)
def test_the_agent_is_told_one_thing_to_start(spec: JobSpec) -> None:
    told = assignment_command(spec)

    kinds = [name for name in ("shell", "script", "argv") if told[name] is not None]
    assert len(kinds) == (0 if spec.is_held and spec.args is None else 1)


def test_new_ids_are_of_version_7_and_in_the_order_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for milliseconds in range(1_700_000_000_000, 1_700_000_000_050):
        monkeypatch.setattr(ids.time, "time_ns", lambda now=milliseconds: now * 1_000_000)
        made.append(ids.new_id())

    assert made == sorted(made)
    assert len(set(made)) == len(made)
    assert all(made_id.version == 7 and made_id.variant == "specified in RFC 4122" for made_id in made)


def test_derived_ids_are_the_same_for_the_same_and_others_for_others() -> None:
    job = UUID("0196a3c4-0000-7000-8000-000000000001")
    derived = {
        ids.saga_id(kind, subject, attempt, attempt_try)
        for kind in ("PROVISIONING", "EXECUTION")
        for subject in (job, uuid4())
        for attempt in (1, 2)
        for attempt_try in (0, 1)
    } | {ids.worker_id(job, attempt, attempt_try) for attempt in (1, 2) for attempt_try in (0, 1)}

    assert len(derived) == 20
    assert ids.saga_id("EXECUTION", job, 1) == ids.saga_id("EXECUTION", job, 1, 0)
    assert all(made.version == 5 for made in derived)
