"""What a provider knows of its workers before anybody has to miss them: it reaches the sagas at the clock's next look."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from support.core import Core, TestPlace, failure, result
from support.core_cancel import ask, settle

from hodei.domain.causes import Failure
from hodei.errors import Conflict, Unauthorized
from hodei.providers.contract import Health, ProviderError, ResourceState, ResourceView
from hodei.services import agents, providers, repair
from hodei.services.cancel import cancel_job
from hodei.services.why import explain

NO_ROOM = Failure(code="ERR_3008", message="No node can take the pod: 1 Insufficient cpu.")
NO_IMAGE = Failure(code="ERR_3001", message="The image nothing:1 cannot be pulled: not found.")


class WatchingPlace(TestPlace):
    """A place that is told of changes. ``in_step`` False: it does not know just now."""

    def __init__(self, provider_id: UUID) -> None:
        super().__init__(provider_id)
        self.in_step = True
        self.views: dict[UUID, ResourceView] = {}
        self.inspected: list[UUID] = []
        self.listed = 0

    def show(self, worker_id: UUID, state: ResourceState, **more: Failure) -> None:
        self.views[worker_id] = ResourceView(
            worker_id=worker_id, state=state, resource_id=f"res-{worker_id}", **more
        )

    def watched(self, deployment: str) -> list[ResourceView] | None:
        return [self._shown(worker_id) for worker_id in self.made] if self.in_step else None

    def inspect(self, worker_id: UUID) -> ResourceView:
        self.inspected.append(worker_id)
        return self._shown(worker_id)

    def list_workers(self, deployment: str) -> list[ResourceView]:
        self.listed += 1
        return [self._shown(worker_id) for worker_id in self.made]

    def _shown(self, worker_id: UUID) -> ResourceView:
        if worker_id not in self.made:
            return ResourceView(worker_id=worker_id, state=ResourceState.GONE)
        running = ResourceView(
            worker_id=worker_id, state=ResourceState.RUNNING, resource_id=f"res-{worker_id}"
        )
        return self.views.get(worker_id, running)


@pytest.fixture
def place(core: Core) -> WatchingPlace:
    provider_id = core.provider("here")
    core.places.places[provider_id] = made = WatchingPlace(provider_id)
    core.sql(
        "INSERT INTO hodei.loops (name, owner, interval_s, detail) VALUES ('door:t', 't', 5, "
        "jsonb_build_object('up_since', clock_timestamp() - interval '2 h'))"
    )
    return made


def time_passes(core: Core, seconds: float = 2.0) -> None:
    """As if the workers' rows had been written so long ago."""
    core.sql(f"UPDATE workers SET updated_at = updated_at - interval '{seconds} s'")


def look(core: Core) -> int:
    found = repair.watch_workers(core.platform)
    core.drain()
    return found


def fails_with(code: str) -> Callable[..., Any]:
    """What a provider does that fails with this cause, which may pass."""

    def fail(*_: object) -> None:
        raise ProviderError(failure(code), transient=True)

    return fail


def being_made(core: Core, place: WatchingPlace) -> tuple[UUID, UUID]:
    """A job whose worker exists and has not connected."""
    job_id = core.submit("here")
    core.drain()
    time_passes(core)
    return job_id, core.job(job_id).worker_id


def running(core: Core, **spec: object) -> tuple[UUID, UUID]:
    job_id, worker_id = core.to_running_worker("here", **spec)
    agent, given = agents.AgentIdentity(worker_id=worker_id), core.assigned(worker_id)
    agents.accept(core.platform, agent, UUID(given["execution_id"]), 1)
    agents.started(core.platform, agent, UUID(given["execution_id"]), 1, pid=1, at_us=1)
    time_passes(core)
    return job_id, worker_id


def test_a_worker_that_will_never_run_ends_its_job_with_the_cause(core: Core, place: WatchingPlace) -> None:
    job_id, worker_id = being_made(core, place)
    place.show(worker_id, ResourceState.STARTING, failure=NO_IMAGE)

    assert look(core) == 1

    job = core.job(job_id)
    assert (job.state, job.error_code, job.error_message) == ("FAILED", NO_IMAGE.code, NO_IMAGE.message)
    assert core.worker(worker_id).state == "TERMINATED" and place.made == {}


def test_why_a_worker_does_not_run_yet_is_shown_and_waited_for(core: Core, place: WatchingPlace) -> None:
    job_id, worker_id = being_made(core, place)
    place.show(worker_id, ResourceState.STARTING, waiting=NO_ROOM)

    look(core)

    job = core.job(job_id)
    assert (job.state, job.error_code) == ("SCHEDULED", "ERR_3008")
    assert NO_ROOM.message in explain(core.platform, job_id)["summary"]
    place.views.clear()
    look(core)
    assert core.job(job_id).error_code is None, "it runs now: nothing is in its way"
    core.connect(worker_id)
    core.drain()
    assert core.job(job_id).state == "ASSIGNED"


def test_a_worker_that_waits_for_a_place_is_no_worker_that_does_not_connect(
    core: Core, place: WatchingPlace
) -> None:
    """Two minutes are for connecting. What comes before, a node and an image, may take as long as provisioning may."""
    job_id, worker_id = being_made(core, place)
    place.show(worker_id, ResourceState.STARTING)
    look(core)
    in_two_minutes(core)

    core.drain()

    assert core.job(job_id).state == "SCHEDULED"
    assert "does not run yet" in explain(core.platform, job_id)["summary"]


def test_from_when_it_runs_it_has_its_time_to_connect(core: Core, place: WatchingPlace) -> None:
    job_id, worker_id = being_made(core, place)
    place.show(worker_id, ResourceState.STARTING)
    look(core)
    place.views.clear()
    look(core)
    core.sql(
        "UPDATE workers SET agent = jsonb_set(agent, '{infrastructure,since}', to_jsonb(clock_timestamp() - interval '121 s'))"
    )
    nudge(core)

    saga = core.sagas(job_id, "PROVISIONING")[0]
    assert saga.state == "FAILED" and "did not connect in time" in saga.error_message


@pytest.mark.parametrize(("seen", "code"), [({"waiting": NO_ROOM}, "ERR_3008"), ({}, "ERR_3005")])
def test_a_place_that_never_comes_is_what_provisioning_fails_of(
    core: Core, place: WatchingPlace, seen: dict[str, Failure], code: str
) -> None:
    job_id, worker_id = being_made(core, place)
    place.show(worker_id, ResourceState.STARTING, **seen)
    look(core)
    core.sql(
        "UPDATE sagas SET metadata = metadata || jsonb_build_object('deadline', clock_timestamp() - interval '1 s')"
    )
    nudge(core)

    assert core.sagas(job_id, "PROVISIONING")[0].metadata["outcome"] == "compensated"
    assert core.job(job_id).error_code == code
    assert place.made == {}


def in_two_minutes(core: Core) -> None:
    core.sql(
        "UPDATE saga_steps SET output_data = jsonb_set(output_data, '{created_at}', "
        "to_jsonb(clock_timestamp() - interval '121 s')) WHERE step_name = 'CreateInfrastructure'"
    )
    nudge(core)


def nudge(core: Core) -> None:
    core.sql(
        "UPDATE sagas SET waiting_until = clock_timestamp(), nudge_after = clock_timestamp() WHERE completed_at IS NULL"
    )
    repair.nudge_sagas(core.platform)
    core.drain()


def test_a_worker_that_somebody_deleted_is_recovered_before_it_is_missed(
    core: Core, place: WatchingPlace
) -> None:
    job_id, worker_id = running(core)
    place.made.pop(worker_id)

    assert look(core) == 1

    assert place.inspected[0] == worker_id, "a watch may lag behind: it is asked before anything is done"
    assert core.worker(worker_id).state == "TERMINATED"
    assert core.job(job_id).state == "PENDING"
    core.make_due()
    repair.dispatch(core.platform)
    core.drain()
    core.connect(core.job(job_id).worker_id)
    core.drain()
    assert core.job(job_id).attempts == 2


def test_a_worker_that_was_ended_for_memory_ends_its_job_with_that_cause(
    core: Core, place: WatchingPlace
) -> None:
    job_id, worker_id = running(core)
    place.show(worker_id, ResourceState.EXITED, failure=failure("ERR_1013"))

    look(core)

    job = core.job(job_id)
    assert (job.state, job.error_code) == ("FAILED", "ERR_1013")


def told_to_leave(core: Core, worker_id: UUID) -> None:
    """Its agent got TERM, from whomever, and reports it."""
    given = core.assigned(worker_id)
    agents.report_result(
        core.platform,
        agents.AgentIdentity(worker_id=worker_id),
        UUID(given["execution_id"]),
        1,
        result(None, outcome="worker_stopped", error_code="ERR_1008", error_message="It was told to stop."),
    )
    core.drain()


def test_an_agent_that_was_told_to_leave_knows_not_why_and_its_provider_does(
    core: Core, place: WatchingPlace
) -> None:
    job_id, worker_id = running(core)
    place.show(worker_id, ResourceState.RUNNING, failure=failure("ERR_3009"))

    told_to_leave(core, worker_id)

    assert (core.job(job_id).state, core.job(job_id).error_code) == ("PENDING", "ERR_3009")
    [execution] = core.sql("SELECT state, error_code FROM hodei.executions")
    assert (execution.state, execution.error_code) == ("failed", "ERR_3009")


@pytest.mark.parametrize(
    "error", [ProviderError(failure("ERR_5001"), transient=True), ValueError("Expecting value: line 1")]
)
def test_where_the_provider_does_not_know_either_the_agents_word_counts(
    core: Core, place: WatchingPlace, error: Exception
) -> None:
    job_id, worker_id = running(core)

    def away(worker_id: UUID) -> ResourceView:
        raise error

    place.inspect = away  # type: ignore[method-assign]

    told_to_leave(core, worker_id)

    assert (core.job(job_id).state, core.job(job_id).error_code) == ("PENDING", "ERR_1008")


class DiscardingPlace(WatchingPlace):
    """A place whose host takes its time about workers that never came up."""

    def __init__(self, provider_id: UUID) -> None:
        super().__init__(provider_id)
        self.discarded: list[UUID] = []

    def discard(self, worker_id: UUID) -> None:
        self.discarded.append(worker_id)
        self.made.pop(worker_id, None)


def test_only_a_worker_that_never_registered_is_discarded(core: Core, place: WatchingPlace) -> None:
    core.places.places[place.provider_id] = discarding = DiscardingPlace(place.provider_id)
    unborn, unborn_worker = being_made(core, discarding)
    cancel_job(core.platform, unborn, actor="test")
    core.drain()
    lost, lost_worker = running(core)
    discarding.show(lost_worker, ResourceState.EXITED)
    look(core)

    assert (core.job(unborn).state, core.job(lost).state) == ("CANCELLED", "PENDING")
    assert (discarding.discarded, discarding.stops) == ([unborn_worker], [lost_worker])


def test_a_watch_that_lags_behind_hurts_nobody(core: Core, place: WatchingPlace) -> None:
    job_id, worker_id = running(core)
    hidden = place.made.pop(worker_id)
    place.watched = lambda deployment: []  # type: ignore[method-assign]
    place.made[worker_id] = hidden

    assert look(core) == 0

    assert place.inspected == [worker_id]
    assert core.job(job_id).state == "RUNNING"


def test_a_watch_that_does_not_know_leaves_workers_to_their_heartbeats(
    core: Core, place: WatchingPlace
) -> None:
    job_id, worker_id = running(core)
    place.made.pop(worker_id)
    place.in_step = False

    assert look(core) == 0
    assert (core.job(job_id).state, place.inspected, place.listed) == ("RUNNING", [], 0)


def test_a_provider_that_is_away_loses_nobody(core: Core, place: WatchingPlace) -> None:
    job_id, _ = running(core)
    place.watched = lambda deployment: []  # type: ignore[method-assign]

    away = fails_with("ERR_5001")

    place.inspect = away  # type: ignore[method-assign]

    assert look(core) == 0
    assert core.job(job_id).state == "RUNNING"


def test_a_worker_that_left_with_its_report_is_not_missed(core: Core, place: WatchingPlace) -> None:
    job_id, worker_id = core.to_running_worker("here")
    core.perform(worker_id)
    time_passes(core)
    place.show(worker_id, ResourceState.EXITED)

    assert repair.watch_workers(core.platform) == 0

    core.drain()
    assert core.job(job_id).state == "SUCCEEDED"
    assert core.worker(worker_id).termination_reason == "its job ended"


def test_a_worker_that_is_gone_confirms_the_cancel_of_its_job(core: Core, place: WatchingPlace) -> None:
    job_id, worker_id = running(core)
    place.made.pop(worker_id)
    cancel_job(core.platform, job_id, actor="test")
    core.drain()

    look(core)

    assert core.worker(worker_id).state == "TERMINATED"
    assert core.job(job_id).state == "CANCELLED"


def test_a_host_that_does_not_answer_loses_no_worker_that_is_heard(core: Core, place: WatchingPlace) -> None:
    job_id, worker_id = running(core)
    place.show(worker_id, ResourceState.LOST, failure=failure("ERR_3010"))

    assert look(core) == 0

    core.sql("UPDATE workers SET last_heartbeat = clock_timestamp() - interval '31 s'")
    assert look(core) == 1
    [recovery] = core.sagas(job_id, "RECOVERY")
    assert recovery.metadata["error_code"] == "ERR_3010"
    [execution] = core.sql("SELECT state, error_code FROM hodei.executions")
    assert (execution.state, execution.error_code) == ("lost", "ERR_3010")


def test_a_worker_that_is_heard_again_before_anybody_acts_outlives_its_hosts_silence(
    core: Core, place: WatchingPlace
) -> None:
    # given a RECOVERY that waits for a controller
    job_id, worker_id = running(core)
    place.show(worker_id, ResourceState.LOST, failure=failure("ERR_3010"))
    core.sql("UPDATE workers SET last_heartbeat = clock_timestamp() - interval '31 s'")
    assert repair.watch_workers(core.platform) == 1

    # when
    agents.heartbeat(core.platform, agents.AgentIdentity(worker_id=worker_id), {"executions": []})
    core.drain()

    # then
    assert core.sagas(job_id, "RECOVERY")[0].state == "CANCELLED"
    assert (core.job(job_id).state, core.worker(worker_id).state) == ("RUNNING", "BUSY")


def test_a_probe_is_the_providers_own_and_nothing_is_written_down(core: Core, place: WatchingPlace) -> None:
    with pytest.raises(Conflict, match="has no probe"):
        providers.probe_provider(core.platform, "here")

    place.probe = lambda: Health(ok=False, message="Not reached.", checks={"probe": "Not reached."})  # type: ignore[attr-defined]
    found = providers.probe_provider(core.platform, "here")

    assert (found["ok"], found["status"], found["checks"]) == (False, "active", {"probe": "Not reached."})
    assert core.sql("SELECT status FROM provider_configs")[0].status == "ACTIVE"


def test_a_provider_that_does_not_answer_costs_a_job_no_retry(core: Core, place: WatchingPlace) -> None:
    away = fails_with("ERR_5001")

    place.on_start = away
    job_id = core.submit("here")
    core.drain()

    job = core.job(job_id)
    assert (job.state, job.infra_retries) == ("SCHEDULED", 0)
    assert "which is asked again: It failed with ERR_5001" in explain(core.platform, job_id)["summary"]

    place.on_start = lambda request: None
    nudge(core)

    assert place.starts == [core.job(job_id).worker_id]


def test_a_provider_that_is_known_to_be_away_is_not_asked_by_every_job_that_waits_for_it(
    core: Core, place: WatchingPlace
) -> None:
    # given a Docker that hangs: each question costs half a minute of a thread that serves all
    asked: list[object] = []

    def hangs(request: object) -> None:
        asked.append(request)
        raise ProviderError(failure("ERR_5006"), transient=True)

    place.on_start = hangs
    job_id = core.submit("here")
    core.drain()
    core.sql("UPDATE provider_configs SET status = 'UNHEALTHY'")

    # when its turn comes again and again
    for _ in range(5):
        nudge(core)

    # then it is asked when it is well
    assert len(asked) == 1
    place.on_start = lambda request: None
    core.sql("UPDATE provider_configs SET status = 'ACTIVE'")
    nudge(core)
    assert place.starts == [core.job(job_id).worker_id]


def test_a_cancel_does_not_wait_for_a_provider_that_is_away(core: Core, place: WatchingPlace) -> None:
    # given a job whose worker cannot be made, because its provider is away, as is known
    away = fails_with("ERR_5001")

    place.on_start = away
    job_id = core.submit("here")
    core.drain()
    core.sql("UPDATE provider_configs SET status = 'UNHEALTHY'")
    nudge(core)

    # when
    ask(core, job_id)
    settle(core)

    # then
    assert core.job(job_id).state == "CANCELLED"


def test_a_provider_that_answers_and_cannot_is_waited_for_a_minute(core: Core, place: WatchingPlace) -> None:
    # given a Docker whose containerd is just being restarted
    breaks = fails_with("ERR_5008")

    place.on_start = breaks
    job_id = core.submit("here")
    core.drain()
    nudge(core)
    assert (core.job(job_id).state, core.job(job_id).infra_retries) == ("SCHEDULED", 0)

    # when it goes on being so
    core.sql(
        "UPDATE sagas SET metadata = metadata || jsonb_build_object('breaks_since', clock_timestamp() - interval '61 s')"
    )
    nudge(core)

    # then it is none that passes
    assert (core.job(job_id).state, core.job(job_id).infra_retries) == ("PENDING", 1)
    assert core.job(job_id).error_code == "ERR_5008"


def test_a_provider_that_never_answers_fails_the_provisioning_in_its_time(
    core: Core, place: WatchingPlace
) -> None:
    away = fails_with("ERR_5006")

    place.on_start = away
    job_id = core.submit("here")
    core.drain()
    core.sql(
        "UPDATE sagas SET metadata = metadata || jsonb_build_object('deadline', clock_timestamp() - interval '1 s')"
    )
    nudge(core)

    assert core.job(job_id).error_code == "ERR_5006"
    assert core.job(job_id).infra_retries == 1


def test_a_provider_that_does_not_come_back_holds_no_job_longer_than_provisioning_may_take(
    core: Core, place: WatchingPlace
) -> None:
    # given a worker that may have been made, and whose provider has gone
    job_id, worker_id = being_made(core, place)

    away = fails_with("ERR_5001")

    place.on_stop = away
    place.list_workers = away  # type: ignore[method-assign,assignment]
    with pytest.raises(ProviderError):
        in_two_minutes(core)
    assert core.job(job_id).state == "SCHEDULED"

    # when the time for provisioning is over
    core.sql(
        "UPDATE sagas SET metadata = metadata || jsonb_build_object('deadline', clock_timestamp() - interval '1 s')"
    )
    nudge(core)

    # then the job goes on, and the clock goes on with its worker, which can do nothing and holds its place
    assert (core.job(job_id).state, core.job(job_id).error_code) == ("PENDING", "ERR_3005")
    assert core.sagas(job_id, "PROVISIONING")[0].metadata["outcome"] == "compensated"
    assert core.worker(worker_id).state == "TERMINATING" and core.places_taken(place.provider_id) == 1
    with pytest.raises(Unauthorized):
        core.connect(worker_id)
    place.on_stop = lambda worker_id: None
    core.sql("UPDATE workers SET destroy_after = clock_timestamp()")
    assert repair.destroy_workers(core.platform) == 1
    assert place.made == {} and core.places_taken(place.provider_id) == 0


def test_a_worker_is_told_how_long_it_may_live_when_its_job_has_a_time_out(
    core: Core, place: WatchingPlace
) -> None:
    lives: list[float | None] = []
    place.on_start = lambda request: lives.append(request.lifetime_s)
    core.submit("here", timeout_s=100.0, grace_s=5.0)
    core.submit("here")
    core.drain()

    assert lives == [600 + 60 + 100 + 5 + 900, None]
