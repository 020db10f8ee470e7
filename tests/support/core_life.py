"""A job's life in the hands of chance: every call that may come, in any order and more than once, and what must hold."""

from __future__ import annotations

import contextlib
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from hodei.domain.job import INFRASTRUCTURE_RETRIES
from hodei.domain.states import EXECUTION_LIVE, JOB_ENDS, JOB_TRANSITIONS, JobState
from hodei.errors import Conflict, HodeiError
from hodei.providers.contract import ProviderError
from hodei.services import cancel, deadlines, repair, retry
from support.core import Core, failure
from support.core_cancel import CANCELLED, AgentOf, pass_time

HISTORY = """
CREATE TABLE IF NOT EXISTS hodei.history (n bigserial PRIMARY KEY, job_id uuid, old text, new text);
CREATE OR REPLACE FUNCTION hodei.remember() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO hodei.history (job_id, old, new) VALUES (NEW.id, OLD.state, NEW.state);
    RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER remember AFTER UPDATE OF state ON public.jobs
    FOR EACH ROW WHEN (OLD.state <> NEW.state) EXECUTE FUNCTION hodei.remember();
"""
DOOR = (
    "INSERT INTO hodei.loops (name, owner, interval_s, detail) VALUES ('door:t', 't', 5, "
    "jsonb_build_object('up_since', clock_timestamp() - interval '9 h')) ON CONFLICT (name) DO NOTHING"
)

WHICH = st.integers(0, 1_000_000)
"""Which of those that there are, whose number is not known before."""

ROAD = ("_drain", "a_worker_connects", "_drain", "an_agent_accepts", "an_agent_says_that_it_started")
"""From the queue to RUNNING."""


def prepare(core: Core) -> UUID:
    """Have the database note every change of a job's state, whoever makes it. Returns the provider ``here``."""
    core.sql(HISTORY)
    core.sql(DOOR)
    return core.provider("here", max_workers=1000)


class Life(RuleBasedStateMachine):
    """One job. ``core`` and ``provider_id`` are set by a subclass."""

    core: Core
    provider_id: UUID

    @initialize(
        retries=st.integers(0, 2),
        timeout_s=st.sampled_from([None, 30.0]),
        far=st.sampled_from([0, 1, 2, 3, 4, 5, 5, 5]),
    )
    def submit(self, retries: int, timeout_s: float | None, far: int) -> None:
        self.core.courier.kept.clear()
        self.core.courier.ever.clear()
        self.place = self.core.places.get(self.provider_id)
        self.place.on_stop = lambda worker_id: None
        self.job_id = self.core.submit("here", retries=retries, timeout_s=timeout_s, grace_s=1.0)
        self.retries = retries
        self.asked_again = 0
        self.agents: dict[UUID, AgentOf] = {}
        self.running: set[UUID] = set()
        """The workers whose agents have started the job and not ended it."""
        self.at_once = 0
        for step in ROAD[:far]:
            getattr(self, step)()

    # --- messages and the clock ------------------------------------------------------------------------------------

    @rule()
    def things_go_well_for_a_while(self) -> None:
        for step in ROAD:
            getattr(self, step)()

    @rule(which=WHICH)
    def deliver_a_message(self, which: int) -> None:
        kept = self.core.courier.kept
        if kept:
            message = kept[which % len(kept)]
            del kept[which % len(kept)]
            self._deliver(message)

    @rule(which=WHICH)
    def deliver_one_again(self, which: int) -> None:
        ever = self.core.courier.ever
        if ever:
            self._deliver(ever[which % len(ever)])

    @rule()
    def lose_all_messages(self) -> None:
        self.core.courier.kept.clear()

    @rule(seconds=st.sampled_from([3, 40, 700]))
    def time_passes(self, seconds: int) -> None:
        pass_time(self.core, seconds, wish=True)
        for table in (
            "hodei.executions SET started_at = started_at",
            "hodei.executions SET reported_at = reported_at",
            "jobs SET due_at = due_at",
            "workers SET updated_at = updated_at",
        ):
            self.core.sql(f"UPDATE {table} - interval '{seconds} s' WHERE true")
        if seconds > self.core.platform.settings.lease_over_s:
            self.running.clear()  # by their own clocks

    @rule()
    def the_clock_looks(self) -> None:
        self._clock()

    # --- agents ----------------------------------------------------------------------------------------------------

    @rule()
    def a_worker_connects(self) -> None:
        worker_id = self.core.job(self.job_id).worker_id
        if worker_id in self.place.made:
            with contextlib.suppress(HodeiError):
                self.core.connect(worker_id)

    @rule()
    def an_agent_accepts(self) -> None:
        worker_id = self.core.job(self.job_id).worker_id
        if worker_id not in self.place.made or self.core.worker(worker_id).registered_at is None:
            return
        with contextlib.suppress(HodeiError, StopIteration):
            agent = self.agents.get(worker_id) or AgentOf(self.core, worker_id)
            self.agents[worker_id] = agent
            agent.accept()
            if worker_id not in self.running and not self._said_all(agent):
                self.running.add(worker_id)
                alive = {each for each in self.running if each in self.place.made}
                self.at_once = max(self.at_once, len(alive))

    @rule(which=WHICH, exit_code=st.sampled_from([0, 3]), twice=st.booleans())
    def an_agent_reports(self, which: int, exit_code: int, twice: bool) -> None:
        agent = self._any_running(which)
        if agent is not None:
            for _ in range(1 + twice):
                with contextlib.suppress(HodeiError):
                    agent.report(exit_code)
            self.running.discard(agent.identity.worker_id)

    @rule(which=WHICH)
    def an_agent_says_that_it_started(self, which: int = 0) -> None:
        agent = self._any_running(which)
        if agent is not None:
            with contextlib.suppress(HodeiError):
                agent.started()

    @rule(which=WHICH)
    def an_agent_cancels_what_it_was_told_to(self, which: int) -> None:
        agent = self._any_running(which)
        if agent is not None and agent.cancels():
            self.running.discard(agent.identity.worker_id)
            with contextlib.suppress(HodeiError):
                agent.report(**CANCELLED)

    @rule()
    def a_container_dies(self) -> None:
        self.place.made.pop(self.core.job(self.job_id).worker_id, None)
        self.core.sql("UPDATE workers SET last_heartbeat = last_heartbeat - interval '60 s'")

    @rule(away=st.booleans())
    def the_provider_goes_and_comes(self, away: bool) -> None:
        def stop(worker_id: UUID) -> None:
            if away:
                raise ProviderError(failure("ERR_5001"))

        self.place.on_stop = stop

    # --- people ----------------------------------------------------------------------------------------------------

    @rule()
    def somebody_cancels(self) -> None:
        before = self.core.job(self.job_id)
        try:
            answer = cancel.cancel_job(self.core.platform, self.job_id, actor="test")
        except Conflict:
            assert before.state in JOB_ENDS
            return
        if before.cancel_requested_at is not None:
            assert answer["cancel_requested_at"] == before.cancel_requested_at

    @precondition(lambda self: self.asked_again < 2)
    @rule()
    def somebody_asks_again(self) -> None:
        before = self.core.job(self.job_id)
        try:
            retry.retry_job(self.core.platform, self.job_id, actor="test")
            self.asked_again += 1
            assert before.state in JOB_ENDS - {JobState.SUCCEEDED}
        except Conflict:
            assert before.state not in JOB_ENDS - {JobState.SUCCEEDED}

    # --- what must hold --------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        if not hasattr(self, "job_id"):
            return
        self.place.on_stop = lambda worker_id: None
        for _ in range(40):
            self._push_on()
            if self._is_over():
                break
        self._check()

    def _push_on(self) -> None:
        """Everything works again: messages arrive, time passes, agents do what they are told."""
        self.core.sql(
            "UPDATE sagas SET nudge_after = clock_timestamp(), lease_expires = NULL WHERE completed_at IS NULL"
        )
        self.core.sql("UPDATE workers SET destroy_after = clock_timestamp() WHERE state = 'TERMINATING'")
        self.core.sql("UPDATE workers SET updated_at = updated_at - interval '4 s'")
        self._clock()
        self.core.make_due()
        self.core.deliver(("look",))
        self._drain()
        for act in (self.a_worker_connects, self._drain, self.an_agent_accepts):
            act()
        for agent in list(self.agents.values()):
            told_to_cancel = bool(agent.cancels())
            with contextlib.suppress(HodeiError):
                agent.report(**(CANCELLED if told_to_cancel else {}))
            self.running.discard(agent.identity.worker_id)
        self._drain()

    def _is_over(self) -> bool:
        open_sagas = self.core.sql(
            "SELECT 1 FROM sagas WHERE completed_at IS NULL AND correlation_id = :id", id=self.job_id
        )
        return not open_sagas and self.core.job(self.job_id).state in JOB_ENDS and not self.place.made

    def _check(self) -> None:
        core, job = self.core, self.core.job(self.job_id)
        open_sagas = [(s.saga_type, s.state) for s in core.sagas(self.job_id) if s.completed_at is None]
        left = list(self.place.made)
        if (job.state in JOB_ENDS, open_sagas, left) != (True, [], []):
            raise AssertionError(self._picture())
        history = core.sql("SELECT old, new FROM hodei.history WHERE job_id = :id ORDER BY n", id=self.job_id)
        for change in history:
            assert JobState(change.new) in JOB_TRANSITIONS[JobState(change.old)], (
                f"{change.old} → {change.new}"
            )
        states = [change.new for change in history]
        ends = [state for state in states if state in JOB_ENDS]
        assert len(ends) == 1 + self.asked_again
        told = core.events(self.job_id)
        said = [event.partition(" ")[2] for event in told if event.startswith("JobStatusChanged")]
        assert said == [state for state in states if state == "RUNNING" or state in JOB_ENDS]
        assert told.count("JobRetried") == states.count("PENDING")
        assert told.count("JobAssigned") == job.attempts == states.count("ASSIGNED")
        executions = core.sql("SELECT state FROM hodei.executions WHERE job_id = :id", id=self.job_id)
        assert len(executions) == job.attempts
        assert not {row.state for row in executions} & {state.value for state in EXECUTION_LIVE}
        lives = 1 + self.asked_again
        assert job.attempts <= lives * (1 + INFRASTRUCTURE_RETRIES) + self.retries
        assert self.at_once <= 1, "attempts overlapped"

    def _picture(self) -> str:
        """Where everything is."""
        sagas = [
            (
                saga.saga_type,
                saga.state,
                saga.error_message,
                saga.waiting_until,
                self.core.audit(saga.id)[-3:],
            )
            for saga in self.core.sagas(self.job_id)
        ]
        workers = self.core.sql(
            "SELECT id, state, termination_reason, last_heartbeat, provider_resource_id FROM workers WHERE last_job_id = :id"
            " OR reserved_for = :id OR id = (SELECT worker_id FROM jobs WHERE id = :id)",
            id=self.job_id,
        )
        executions = self.core.sql("SELECT * FROM hodei.executions WHERE job_id = :id", id=self.job_id)
        parts = [self.core.job(self.job_id), self.core.events(self.job_id), sagas, workers, executions]
        return "\n".join(str(part) for part in [*parts, list(self.place.made)])

    # --- helpers ---------------------------------------------------------------------------------------------------

    def _deliver(self, message: tuple) -> None:
        with contextlib.suppress(ProviderError):
            self.core.deliver(message)

    def _drain(self) -> None:
        while (message := self.core.courier.take()) is not None:
            self._deliver(message)

    def _clock(self) -> None:
        self.core.sql("UPDATE hodei.loops SET progressed_at = clock_timestamp() WHERE name = 'door:t'")
        platform = self.core.platform
        for look in (
            repair.nudge_sagas,
            repair.end_overdue_jobs,
            repair.watch_workers,
            deadlines.start_timeouts,
            repair.destroy_workers,
        ):
            look(platform)

    def _any_running(self, which: int) -> AgentOf | None:
        """An agent that runs the job; its container may have been taken from it since."""
        alive = sorted(each for each in self.running if each in self.place.made)
        return self.agents[alive[which % len(alive)]] if alive else None

    def _said_all(self, agent: AgentOf) -> bool:
        [row] = self.core.sql(
            "SELECT reported_at FROM hodei.executions WHERE id = :id", id=agent.execution_id
        )
        return row.reported_at is not None
