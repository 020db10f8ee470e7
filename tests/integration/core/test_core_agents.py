"""What agents ask and tell: tokens, fences, reports in any order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from hodei_agent.frames import Segment, pack, pack_payload, segment_header
from support.core import Core, refused, result

from hodei.domain.job import JobSpec
from hodei.errors import Conflict, InvalidInput, NotFound, StaleAttempt, Unauthorized, UpgradeRequired
from hodei.ports import token_hash
from hodei.services import agents
from hodei.services.agents.sessions import Sessions
from hodei.services.cancel import cancel_job
from hodei.services.submit import NewJob, submit_job
from hodei.vault import Vault

SESSION = "a session token, long enough to be one"
WHOLE_LIFE = [
    "JobCreated",
    "JobAssigned",
    "JobAccepted",
    "JobStatusChanged RUNNING",
    "JobStatusChanged SUCCEEDED",
]


def registration(**changes: Any) -> dict[str, Any]:
    return {"protocol": 1, "session_token": SESSION, "agent_version": "test"} | changes


@pytest.fixture
def made(core: Core) -> UUID:
    """A worker that was made and has not connected."""
    core.provider("here")
    job_id = core.submit("here")
    core.drain()
    return core.job(job_id).worker_id


def test_registering_twice_with_the_same_session_is_one_registration(core: Core, made: UUID) -> None:
    # given
    token = core.platform.one_time_token(made)

    # when
    first = agents.register(core.platform, made, token, registration())
    second = agents.register(core.platform, made, token, registration())

    # then
    assert first == second
    assert core.events(made).count("WorkerRegistered") == 1
    assert agents.authenticate(core.platform, SESSION).worker_id == made


@pytest.mark.parametrize("how", ["wrong", "used", "expired", "foreign", "session", "ended"])
def test_a_token_that_is_not_good_registers_nobody_and_an_event_says_so(
    core: Core, made: UUID, how: str
) -> None:
    # given
    token = core.platform.one_time_token(made)
    if how == "wrong":
        token = "x" * 43
    elif how == "used":
        agents.register(core.platform, made, token, registration())
    elif how == "expired":
        core.sql("UPDATE hodei.worker_tokens SET expires_at = clock_timestamp()")
    elif how == "foreign":
        other = core.submit("here")
        core.drain()
        token = core.platform.one_time_token(core.job(other).worker_id)
    elif how == "session":
        agents.register(core.platform, made, token, registration())
        token = SESSION
    else:
        core.sql("UPDATE workers SET state = 'TERMINATING' WHERE id = :id", id=made)
    before = core.sql("SELECT count(*) AS n FROM hodei.worker_tokens")[0].n

    # when
    error = refused(
        lambda: agents.register(core.platform, made, token, registration(session_token="another " + SESSION))
    )

    # then
    assert isinstance(error, Unauthorized)
    assert core.events(made)[-1] == "WorkerRegistrationRefused"
    assert core.sql("SELECT count(*) AS n FROM hodei.worker_tokens")[0].n == before
    if how == "ended":
        assert core.sql("SELECT 1 FROM hodei.worker_tokens WHERE used_at IS NOT NULL") == []


def test_a_worker_that_does_not_exist_is_refused_and_an_event_says_so(core: Core) -> None:
    unknown = uuid4()

    error = refused(lambda: agents.register(core.platform, unknown, "x" * 43, registration()))

    assert isinstance(error, Unauthorized)
    assert core.events(unknown) == ["WorkerRegistrationRefused"]


def test_a_newer_protocol_is_refused_and_its_token_is_not_spent(core: Core, made: UUID) -> None:
    token = core.platform.one_time_token(made)

    assert isinstance(
        refused(lambda: agents.register(core.platform, made, token, registration(protocol=99))),
        UpgradeRequired,
    )

    agents.register(core.platform, made, token, registration())


def test_tokens_are_not_stored_and_a_session_ends_with_its_worker(core: Core, made: UUID) -> None:
    # given
    token = core.platform.one_time_token(made)
    agents.register(core.platform, made, token, registration())
    hashes = {bytes(row.token_hash) for row in core.sql("SELECT token_hash FROM hodei.worker_tokens")}
    assert hashes == {token_hash(token), token_hash(SESSION)}

    # when
    with core.database.begin() as tx:
        tx.scalar("worker_set_terminated", id=made, reason="over")

    # then
    assert isinstance(refused(lambda: Sessions().find(core.platform, SESSION)), Unauthorized)


def test_a_worker_is_ready_when_its_inbox_is_open_and_not_before(core: Core, made: UUID) -> None:
    agents.register(core.platform, made, core.platform.one_time_token(made), registration())
    assert core.worker(made).state == "CONNECTING"

    agents.poll_inbox(core.platform, agents.AgentIdentity(worker_id=made), 0, 0)
    assert core.worker(made).state == "READY"


class Given:
    """A job in a worker's inbox, and the agent's calls for it."""

    def __init__(self, core: Core, **spec: Any) -> None:
        self.core = core
        self.job_id, self.worker_id = core.to_running_worker("here", **spec)
        self.agent = agents.AgentIdentity(worker_id=self.worker_id)
        given = core.assigned(self.worker_id)
        self.execution, self.fence = UUID(given["execution_id"]), given["fence"]

    def accept(self, fence: int | None = None) -> None:
        agents.accept(self.core.platform, self.agent, self.execution, fence or self.fence)

    def started(self, fence: int | None = None) -> None:
        agents.started(self.core.platform, self.agent, self.execution, fence or self.fence, pid=1, at_us=1)

    def report(self, fence: int | None = None, **more: Any) -> None:
        agents.report_result(
            self.core.platform, self.agent, self.execution, fence or self.fence, result(**more)
        )

    def frames(self, *bodies: bytes, fence: int | None = None) -> int:
        return self.stored(*bodies, fence=fence)["acknowledged"]

    def stored(self, *bodies: bytes, fence: int | None = None) -> dict[str, int]:
        return agents.store_frames(
            self.core.platform, self.agent, self.execution, fence or self.fence, b"".join(bodies)
        )


@pytest.fixture
def given_job(core: Core) -> Given:
    core.provider("here")
    return Given(core)


@pytest.mark.parametrize(
    "order",
    [
        "accept started report",
        "accept accept started started report report",
        "started accept report accept",
        "report started accept report",
        "accept report started",
        "report",
    ],
)
def test_reports_in_any_order_and_number_make_the_same_events(
    core: Core, given_job: Given, order: str
) -> None:
    # when calls come twice, late, or after their answer was lost; what is too late is refused
    calls: dict[str, Callable[[], None]] = {
        "accept": given_job.accept, "started": given_job.started, "report": given_job.report,
    }  # fmt: skip
    for name in order.split():
        error = refused(calls[name])
        assert error is None or isinstance(error, StaleAttempt)
    core.drain()

    # then
    assert core.events(given_job.job_id) == WHOLE_LIFE
    assert core.job(given_job.job_id).state == "SUCCEEDED"


@pytest.mark.parametrize("call", ["accept", "started", "report", "frames"])
def test_every_call_of_another_fence_is_stale(core: Core, given_job: Given, call: str) -> None:
    # given
    before = core.job(given_job.job_id)
    arguments = (frame(1, 1, b"x\n"),) if call == "frames" else ()

    # when
    for fence in (given_job.fence + 1, 99):
        error = refused(lambda fence=fence: getattr(given_job, call)(*arguments, fence=fence))
        assert isinstance(error, StaleAttempt)

    # then
    assert core.job(given_job.job_id) == before
    assert core.sql("SELECT 1 FROM hodei.log_chunks") == []


@pytest.mark.parametrize("call", ["accept", "started", "report", "frames"])
def test_every_call_of_a_superseded_attempt_is_stale(core: Core, given_job: Given, call: str) -> None:
    # given an attempt that was lost and whose job waits for the next
    given_job.accept()
    given_job.started()
    core.sql("UPDATE hodei.executions SET error_code = 'ERR_2006', error_message = 'lost'")
    core.sql("UPDATE sagas SET waiting_until = NULL, nudge_after = now() WHERE state = 'IN_PROGRESS'")
    core.engine.resume(core.sagas(given_job.job_id, "EXECUTION")[0].id)
    core.drain()
    assert core.job(given_job.job_id).state in ("PENDING", "SCHEDULED")

    # when
    arguments = (frame(1, 1, b"x\n"),) if call == "frames" else ()
    error = refused(lambda: getattr(given_job, call)(*arguments))

    # then
    assert isinstance(error, StaleAttempt)


def test_an_execution_of_another_worker_is_not_found(core: Core, given_job: Given) -> None:
    given_job.agent = agents.AgentIdentity(worker_id=uuid4())

    for call in (given_job.accept, given_job.started, given_job.report):
        assert isinstance(refused(call), NotFound)


def test_heartbeats_name_the_attempts_that_were_superseded(core: Core, given_job: Given) -> None:
    beat = {"executions": [{"id": str(given_job.execution), "fence": 1}], "memory_bytes": 7}
    assert agents.heartbeat(core.platform, given_job.agent, beat)["stale"] == []

    core.sql("UPDATE hodei.executions SET state = 'lost'")

    assert agents.heartbeat(core.platform, given_job.agent, beat)["stale"] == [str(given_job.execution)]
    assert core.worker(given_job.worker_id).usage["memory_bytes"] == 7


def frame(seq: int, first_entry: int, data: bytes) -> bytes:
    return pack(seq, first_entry, [Segment(1, 1_000_000 + seq, data)])[0]


def test_frames_are_stored_once_each_and_only_without_a_gap(core: Core, given_job: Given) -> None:
    # given
    given_job.accept()
    one, two, three = frame(1, 1, b"a\nb\n"), frame(2, 3, b"c\n"), frame(3, 4, b"d\n")

    # then: contiguous, duplicate, gap, the gap filled, all again
    assert given_job.frames(one) == 1
    assert given_job.frames(one) == 1
    assert given_job.frames(three) == 1
    assert given_job.frames(two, three) == 3
    assert given_job.frames(one, two, three) == 3
    assert given_job.frames() == 3
    row = core.sql("SELECT last_frame, log_entries FROM hodei.executions")[0]
    assert (row.last_frame, row.log_entries) == (3, 4)
    assert given_job.stored(three) == {"acknowledged": 3, "entries": 4, "bytes": 8}
    assert core.sql("SELECT count(*) AS n FROM hodei.log_chunks")[0].n == 3


def damaged(body: bytes) -> bytes:
    """The frame, with its last byte changed on the way."""
    return body[:-1] + bytes([body[-1] ^ 1])


@pytest.mark.parametrize("data", [b"two\n", b"a line that is packed\n" * 100], ids=["plain", "packed"])
def test_a_frame_that_was_damaged_on_the_way_is_asked_for_again(
    core: Core, given_job: Given, data: bytes
) -> None:
    # given
    given_job.accept()
    one, two, three = frame(1, 1, b"one\n"), frame(2, 2, data), frame(3, 2 + data.count(b"\n"), b"three\n")

    # when it comes damaged, what follows it is not stored either, and both are sent again
    assert given_job.frames(one, damaged(two), three) == 1
    assert given_job.frames(two, three) == 3

    # then
    given_job.started()
    given_job.report(last_frame=3)
    core.drain()
    assert core.job(given_job.job_id).state == "SUCCEEDED"
    assert core.sql("SELECT size_bytes FROM job_log_files") == [{"size_bytes": 10 + len(data)}]


UNREADABLE = {
    "more entries than there are": pack_payload(1, 1, 2, segment_header(Segment(1, 1, b"a\n")) + b"a\n"),
    "a stream that there is not": pack(1, 1, [Segment(9, 1, b"a\n")])[0],
}


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE)
def test_a_frame_that_no_reader_could_read_is_refused_and_its_job_ends_all_the_same(
    core: Core, given_job: Given, body: bytes
) -> None:
    # given
    given_job.accept()
    given_job.started()

    # when
    assert isinstance(refused(lambda: given_job.frames(body)), InvalidInput)
    given_job.report(last_frame=0)
    core.drain()

    # then
    assert core.job(given_job.job_id).state == "SUCCEEDED"


@pytest.mark.parametrize("body", [b"nonsense", frame(1, 5, b"a\n"), frame(1, 1, b"a\n")[:-1]])
def test_bytes_that_are_no_frames_are_refused(core: Core, given_job: Given, body: bytes) -> None:
    given_job.accept()

    assert isinstance(refused(lambda: given_job.frames(body)), InvalidInput)

    assert core.sql("SELECT 1 FROM hodei.log_chunks") == []


def test_a_secret_that_cannot_be_decrypted_any_more_ends_the_attempt_with_that_cause(core: Core) -> None:
    # given a job whose secret was stored with another key
    core.provider("here")
    new = NewJob(
        name="t",
        spec=JobSpec(command="true", provider="here", secret_names=("PASSWORD",)),
        secrets={"PASSWORD": "hunter2"},
    )
    job_id = submit_job(core.platform, new, actor="test", request_id=None)["id"]
    core.sql("UPDATE hodei.secrets SET ciphertext = :other", other=Vault("quite another key").encrypt("x"))
    core.drain()
    worker_id = core.job(job_id).worker_id
    core.connect(worker_id)
    core.drain()

    # when its agent asks for it
    messages = agents.poll_inbox(core.platform, agents.AgentIdentity(worker_id=worker_id), 0, 0)
    core.drain()

    # then nothing is started, and it is tried again at the platform's cost
    assert [message["execution"].get("superseded") for message in messages] == [True]
    job = core.job(job_id)
    assert (job.state, job.error_code, job.infra_retries) == ("PENDING", "ERR_1011", 1)
    assert "HODEI_SECRET_KEY" in job.error_message
    assert core.worker(worker_id).state == "TERMINATED"


@pytest.mark.parametrize("completed", [False, True])
def test_an_attempt_that_was_reported_cannot_be_accepted_again(
    core: Core, given_job: Given, completed: bool
) -> None:
    given_job.accept()
    given_job.started()
    given_job.report()
    if completed:
        core.drain()
        assert core.job(given_job.job_id).state == "SUCCEEDED"

    assert isinstance(refused(given_job.accept), StaleAttempt)


def test_a_result_that_overtakes_its_log_waits_for_it(core: Core, given_job: Given) -> None:
    # given
    given_job.accept()
    given_job.started()
    given_job.report(last_frame=2)
    core.drain()
    assert core.job(given_job.job_id).state == "RUNNING"

    # when the rest comes
    given_job.frames(frame(1, 1, b"a\n"))
    core.drain()
    assert core.job(given_job.job_id).state == "RUNNING"
    given_job.frames(frame(2, 2, b"b\n"))
    core.drain()

    # then
    assert core.job(given_job.job_id).state == "SUCCEEDED"
    assert core.sql("SELECT log_complete, log_entries FROM hodei.executions") == [
        {"log_complete": True, "log_entries": 2}
    ]
    assert core.sql("SELECT entry_count FROM job_log_files") == [{"entry_count": 2}]


def test_a_cancelled_jobs_report_that_overtakes_its_log_waits_for_it(core: Core, given_job: Given) -> None:
    # given
    given_job.accept()
    given_job.started()
    cancel_job(core.platform, given_job.job_id, actor="test")
    core.drain()
    given_job.report(last_frame=1, outcome="cancelled", exit_code=143, error_code=None, error_message=None)
    core.drain()
    assert core.job(given_job.job_id).state == "RUNNING"

    # when the rest comes
    given_job.frames(frame(1, 1, b"a\n"))
    core.drain()

    # then
    assert core.job(given_job.job_id).state == "CANCELLED"
    assert core.sql("SELECT log_complete, log_entries FROM hodei.executions") == [
        {"log_complete": True, "log_entries": 1}
    ]
    assert core.job(given_job.job_id).error_code is None


@pytest.mark.parametrize(
    "harm",
    [
        "DELETE FROM hodei.log_chunks WHERE seq = 1",
        "DELETE FROM hodei.log_chunks WHERE seq = 2",
        "UPDATE hodei.log_chunks SET crc32 = crc32 - 1 WHERE seq = 2",
    ],
)
def test_a_log_of_which_a_part_cannot_be_read_any_more_holds_up_no_end_and_is_marked(
    core: Core, given_job: Given, harm: str
) -> None:
    # given a log that was stored whole, and then lost a part in the database
    given_job.accept()
    given_job.started()
    given_job.frames(frame(1, 1, b"a\n"), frame(2, 2, b"b\n"))
    core.sql(harm)

    # when
    given_job.report(last_frame=2)
    core.drain()

    # then
    job = core.job(given_job.job_id)
    assert (job.state, job.error_code) == ("SUCCEEDED", "ERR_1016")
    assert core.sql("SELECT log_complete, log_to_export FROM hodei.executions") == [
        {"log_complete": False, "log_to_export": False}
    ]
    assert core.sql("SELECT 1 FROM job_log_files") == []


def test_a_log_that_never_comes_whole_is_marked_incomplete(core: Core, given_job: Given) -> None:
    # given
    given_job.accept()
    given_job.started()
    given_job.report(last_frame=2)
    core.drain()

    # when
    core.sql("UPDATE hodei.executions SET reported_at = reported_at - interval '1 min'")
    core.sql("UPDATE sagas SET waiting_until = NULL")
    core.engine.resume(core.sagas(given_job.job_id, "EXECUTION")[0].id)
    core.drain()

    # then
    job = core.job(given_job.job_id)
    assert (job.state, job.error_code) == ("SUCCEEDED", "ERR_1016")
    assert core.sql("SELECT log_complete FROM hodei.executions") == [{"log_complete": False}]


def test_a_log_whose_lines_were_dropped_is_incomplete_and_one_that_was_cut_at_its_cap_is_not(
    core: Core,
) -> None:
    core.provider("here")
    for truncated, more, code, complete in (
        (False, {}, "ERR_1016", False),
        (True, {}, None, True),
        (True, {"lost_bytes": 0}, None, True),
        (True, {"lost_bytes": 60}, "ERR_1016", False),
    ):
        job_id, worker_id = core.to_running_worker("here")
        agent, given = agents.AgentIdentity(worker_id=worker_id), core.assigned(worker_id)
        report = result(0, dropped_entries=7, dropped_bytes=70, truncated=truncated, **more)
        agents.report_result(core.platform, agent, UUID(given["execution_id"]), given["fence"], report)
        core.drain()

        job = core.job(job_id)
        assert (job.state, job.error_code) == ("SUCCEEDED", code)
        assert core.sql("SELECT log_complete FROM hodei.executions WHERE job_id = :id", id=job_id) == [
            {"log_complete": complete}
        ]
        if code:
            assert "7 lines of its log were dropped on the worker" in job.error_message


def test_an_agent_may_not_leave_with_a_job_that_it_did_not_report(core: Core, given_job: Given) -> None:
    assert isinstance(refused(lambda: agents.goodbye(core.platform, given_job.agent, "SIGTERM")), Conflict)
    assert core.worker(given_job.worker_id).state == "BUSY"

    given_job.report()
    assert agents.goodbye(core.platform, given_job.agent, "done") == {}
    core.drain()

    assert core.worker(given_job.worker_id).state == "TERMINATED"


def test_a_free_worker_whose_agent_leaves_is_destroyed(core: Core, made: UUID) -> None:
    # given
    agent = core.connect(made)
    core.courier.kept.clear()

    # when
    agents.goodbye(core.platform, agent, "SIGTERM")
    agents.goodbye(core.platform, agent, "SIGTERM")
    core.drain()

    # then
    assert core.worker(made).state == "TERMINATED"
    assert core.events(made).count("WorkerTerminated") == 1
