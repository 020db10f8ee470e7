"""Providers as people manage them: added, changed, switched off and on, removed; and which jobs they get."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from support.core import Core, refused

from hodei.domain.ids import DOCKER_PROVIDER_ID
from hodei.domain.states import ProviderStatus
from hodei.errors import Conflict, InvalidInput, NotFound
from hodei.providers.contract import Health
from hodei.services import dispatch, provider_admin, providers, repair
from hodei.services.idempotency import RequestKey
from hodei.services.provider_admin import NewProvider, ProviderChange
from hodei.services.why import explain


def add(core: Core, name: str = "eu", **more: Any) -> dict[str, Any]:
    new = NewProvider(**({"name": name, "provider_type": "docker"} | more))
    return provider_admin.add_provider(core.platform, new, actor="test")


def change(core: Core, name: str, **what: Any) -> dict[str, Any]:
    return provider_admin.change_provider(core.platform, name, ProviderChange(**what), actor="test")


def switch(core: Core, name: str, status: str, reason: str | None = None) -> dict[str, Any]:
    return provider_admin.set_status(core.platform, name, ProviderStatus[status], actor="test", reason=reason)


def summary(core: Core, job_id: UUID) -> str:
    return explain(core.platform, job_id)["summary"]


def test_a_provider_that_was_added_is_looked_at_and_gets_jobs(core: Core) -> None:
    # when
    added = add(core, config={"pids_limit": 64}, priority=3, max_workers=2, labels={"zone": "eu"})

    # then
    assert (added["status"], added["type"], added["max_workers"]) == ("active", "docker", 2)
    assert (added["config"], added["labels"], added["priority"]) == ({"pids_limit": 64}, {"zone": "eu"}, 3)
    assert added["capabilities"]["images"] is True
    assert core.events(added["id"]) == ["ProviderCreated", "ProviderStatusChanged"]

    # when
    job_id = core.submit("eu")
    core.drain()

    # then
    assert core.job(job_id).selected_provider_id == added["id"]


def test_one_that_is_not_well_is_added_all_the_same_and_says_why(core: Core, monkeypatch: Any) -> None:
    sick = Health(ok=False, message="Nothing listens there.")
    monkeypatch.setattr("support.core.TestPlace.health", lambda self: sick)

    added = add(core)

    assert (added["status"], added["status_reason"]) == ("unhealthy", "Nothing listens there.")


def test_several_of_one_type_have_their_own_room(core: Core) -> None:
    # given
    ids = [add(core, name, max_workers=1, priority=n)["id"] for n, name in enumerate(("a", "b"))]

    # when
    jobs = [core.submit() for _ in range(3)]
    core.drain()

    # then
    assert [core.job(job).selected_provider_id for job in jobs] == [ids[1], ids[0], None]
    assert summary(core, jobs[2]) == "It waits for room: b (1 of 1 workers), a (1 of 1 workers)."


def test_a_configuration_that_the_adapter_does_not_take_names_its_key(core: Core) -> None:
    for kind, config, field in (
        ("docker", {"pids": 1}, "config.pids"),
        ("docker", {"pids_limit": "many"}, "config.pids_limit"),
        ("docker", {"mounts": [{"source": "/x", "target": "/proc"}]}, "config.mounts.0.target"),
        ("kubernetes", {"namespace": "Not A Name"}, "config.namespace"),
        ("process", {"hiding": "maybe"}, "config.hiding"),
    ):
        error = refused(lambda kind=kind, config=config: add(core, provider_type=kind, config=config))

        assert isinstance(error, InvalidInput), kind
        assert error.field == field
        assert field in error.message
    assert core.sql("SELECT 1 FROM provider_configs") == []


def test_a_name_is_given_once(core: Core) -> None:
    add(core)

    error = refused(lambda: add(core))

    assert isinstance(error, Conflict)
    assert error.field == "name"


def test_processes_are_added_only_where_they_are_switched_on(core: Core) -> None:
    error = refused(lambda: add(core, provider_type="process"))

    assert isinstance(error, Conflict)
    assert "HODEI_PROCESS_ENABLED" in error.message

    # and one that was added before they were switched off is not used any more
    core.provider("old", kind="process")
    repair.check_providers(core.platform)
    assert "HODEI_PROCESS_ENABLED" in summary(core, core.submit("old"))


def test_the_same_request_adds_one_provider_and_answers_the_same(core: Core) -> None:
    key = RequestKey.of("POST /providers", "k", b"body")
    new = NewProvider(name="eu", provider_type="docker")

    first, second = (provider_admin.add_provider(core.platform, new, actor="test", key=key) for _ in range(2))

    assert first["status"] == second["status"] == "active"
    assert str(first["id"]) == second["id"]
    assert second.keys() == first.keys()
    assert core.sql("SELECT count(*) AS n FROM provider_configs")[0].n == 1


@pytest.mark.parametrize("status", ["DISABLED", "MAINTENANCE"])
def test_one_that_is_switched_off_gets_no_new_work_and_says_so_until_it_is_on_again(
    core: Core, status: str
) -> None:
    # given one with a running job
    provider_id = core.provider("here")
    _, worker_id = core.to_running_worker("here")

    # when
    off = switch(core, "here", status, "new disks")
    waiting = core.submit("here")
    core.drain()

    # then, whatever its health checks find
    repair.check_providers(core.platform)
    assert off["status"] == status.lower()
    assert core.job(waiting).state == "PENDING"
    assert summary(core, waiting) == f"It waits for provider here, which is {status}: new disks"

    # and what runs there goes on
    core.perform(worker_id)
    core.drain()
    assert core.worker(worker_id).state == "TERMINATED"

    # when
    on = switch(core, "here", "ACTIVE")
    core.drain()

    # then
    assert (on["status"], on["status_reason"]) == ("active", None)
    assert core.job(waiting).state == "SCHEDULED"
    assert core.events(provider_id) == ["ProviderStatusChanged"] * 3
    told = core.sql(
        "SELECT payload ->> 'new_status' AS status FROM domain_events WHERE aggregate_id = :id"
        " ORDER BY occurred_at",
        id=provider_id,
    )
    assert [row.status for row in told] == [status, "UNHEALTHY", "ACTIVE"]


def test_asking_twice_changes_nothing(core: Core) -> None:
    provider_id = core.provider("here")

    for _ in range(2):
        switch(core, "here", "DISABLED")
    for _ in range(2):
        switch(core, "here", "ACTIVE")

    assert len(core.events(provider_id)) == 3


def test_what_the_settings_switch_off_only_they_switch_on(core: Core) -> None:
    # given
    core.provider("here", status="DISABLED")
    core.sql("UPDATE provider_configs SET status_reason = 'switched off by the settings'")
    repair.check_providers(core.platform)

    # then
    assert isinstance(refused(lambda: switch(core, "here", "ACTIVE")), Conflict)
    assert isinstance(refused(lambda: switch(core, "here", "MAINTENANCE")), Conflict)
    assert switch(core, "here", "DISABLED")["status_reason"] == "switched off by the settings"

    # when they do, after health checks in between
    with core.database.begin() as tx:
        changed = tx.execute(
            "provider_set_enabled_by_settings", id=core.sql("SELECT id FROM provider_configs")[0].id
        )

    # then
    assert changed == 1


def test_a_change_is_merged_and_counts_for_what_is_made_from_then_on(core: Core) -> None:
    # given
    added = add(core, config={"pids_limit": 64, "network": "jobs"}, max_workers=1)
    jobs = [core.submit("eu") for _ in range(2)]
    core.drain()
    assert core.job(jobs[1]).state == "PENDING"

    # when
    changed = change(core, "eu", config={"pids_limit": None, "user": "5:5"}, max_workers=2)
    core.drain()

    # then
    assert changed["config"] == {"network": "jobs", "user": "5:5"}
    assert core.job(jobs[1]).state == "SCHEDULED"
    assert core.events(added["id"])[2:] == ["ProviderChanged"]
    payload = core.sql("SELECT payload FROM domain_events WHERE event_type = 'ProviderChanged'")[0].payload
    assert payload == {"changed": ["config", "max_workers"]}

    # when it is none
    error = refused(lambda: change(core, "eu", config={"user": "root"}, priority=9))

    # then nothing of it counts
    assert isinstance(error, InvalidInput)
    assert error.field == "config.user"
    assert providers.get_provider(core.platform, "eu")["priority"] == 0


def test_less_room_than_there_are_workers_ends_none_of_them(core: Core) -> None:
    core.provider("here", max_workers=2)
    workers = [core.to_running_worker("here")[1] for _ in range(2)]

    change(core, "here", max_workers=1)
    waiting = core.submit("here")
    for worker_id in workers:
        core.drain()
        assert core.job(waiting).state == "PENDING"
        core.perform(worker_id)
    core.drain()

    assert core.job(waiting).state == "SCHEDULED"


def test_secrets_in_a_configuration_are_not_shown(core: Core) -> None:
    added = add(
        core,
        provider_type="kubernetes",
        config={
            "image_pull_secrets": ["registry"],
            "pod_template": {"spec": {"containers": [{"name": "worker", "env": [{"name": "A", "value": "s3cr3t-1"}]}]}},
            "annotations": {"proxy": "http://user:s3cr3t-2@proxy", "api-token": "s3cr3t-3"},
        },
    )  # fmt: skip

    shown = str([added, providers.list_providers(core.platform).items])
    events = str(core.sql("SELECT payload FROM domain_events"))

    assert "s3cr3t" not in shown + events
    assert added["config"]["image_pull_secrets"] == ["registry"]
    assert added["config"]["annotations"]["proxy"] == "http://***@proxy"
    assert core.sql("SELECT config FROM provider_configs")[0].config["annotations"]["api-token"] == "s3cr3t-3"


def test_one_that_is_in_use_is_not_removed(core: Core) -> None:
    # given
    core.provider("here")
    job_id, worker_id = core.to_running_worker("here")

    # then
    assert isinstance(refused(lambda: remove(core, "here")), Conflict)

    # when the job is done, and another waits for it
    core.perform(worker_id)
    core.drain()
    switch(core, "here", "DISABLED")
    waiting = core.submit("here")

    # then
    error = refused(lambda: remove(core, "here"))
    assert isinstance(error, Conflict)
    assert "0 workers, 0 jobs there, 1 jobs that wait for it" in error.message

    # when nothing needs it any more
    core.sql("UPDATE jobs SET state = 'CANCELLED' WHERE id = :id", id=waiting)
    provider_id = core.job(job_id).selected_provider_id
    remove(core, "here")

    # then it is gone, and what happened is still on record
    assert isinstance(refused(lambda: providers.get_provider(core.platform, "here")), NotFound)
    assert core.job(job_id).state == "SUCCEEDED"
    assert core.events(provider_id)[-1] == "ProviderDeleted"
    [assigned] = core.sql("SELECT payload FROM domain_events WHERE event_type = 'JobAssigned'")
    assert assigned.payload["provider_id"] == str(provider_id)


def remove(core: Core, name: str) -> None:
    provider_admin.remove_provider(core.platform, name, actor="test")


def test_a_built_in_one_is_switched_off_and_not_removed(core: Core) -> None:
    core.sql(
        "INSERT INTO provider_configs (id, name, provider_type, status, max_workers)"
        " VALUES (:id, 'docker', 'docker', 'ACTIVE', 1)",
        id=DOCKER_PROVIDER_ID,
    )

    error = refused(lambda: remove(core, "docker"))

    assert isinstance(error, Conflict)
    assert "hodei provider disable docker" in error.message


def test_a_job_goes_only_where_the_labels_are_that_it_requires(core: Core) -> None:
    # given
    add(core, "us", labels={"zone": "us"}, priority=9)
    eu = add(core, "eu", labels={"zone": "eu", "disk": "ssd"})
    fits = core.submit(required_labels={"zone": "eu"})
    nowhere = core.submit(required_labels={"zone": "eu", "disk": "hdd"})
    anywhere = core.submit()

    # when
    core.drain()

    # then
    assert core.job(fits).selected_provider_id == eu["id"]
    assert core.job(nowhere).state == "PENDING"
    assert core.job(anywhere).selected_provider_id != eu["id"]
    assert summary(core, nowhere) == (
        "It waits for a provider with the labels that it requires (disk=hdd, zone=eu); none of us, eu has them."
    )

    # when one has them
    change(core, "us", labels={"zone": "eu", "disk": "hdd"})
    core.drain()

    # then
    assert core.job(nowhere).state == "SCHEDULED"


def test_jobs_that_fit_nowhere_hold_up_no_other(core: Core) -> None:
    core.provider("here", max_workers=100)
    for _ in range(2 * dispatch.BATCH):
        core.submit(required_labels={"zone": "mars"}, priority=9)
    late = core.submit()

    core.drain()

    assert core.job(late).state == "SCHEDULED"


def test_a_provider_that_is_named_must_have_the_labels(core: Core) -> None:
    core.provider("here")

    error = refused(lambda: core.submit("here", required_labels={"zone": "eu"}))

    assert isinstance(error, InvalidInput)
    assert error.field == "required_labels"


def test_stats_count_what_is_there_and_what_became_of_the_last_day(core: Core) -> None:
    # given
    core.provider("here", max_workers=3)
    for exit_code in (0, 0, 3):
        _, worker_id = core.to_running_worker("here")
        core.perform(worker_id, exit_code=exit_code)
        core.drain()
    core.to_running_worker("here")
    core.submit("here")
    core.drain()
    for _ in range(2):
        core.submit("here")
    core.drain()

    # when
    stats = provider_admin.provider_stats(core.platform, "here")

    # then
    assert (stats["max_workers"], stats["places_taken"], stats["places_free"]) == (3, 3, 0)
    assert stats["workers"] == {"busy": 1, "connecting": 2}
    assert stats["jobs"] == {"pending": 1, "scheduled": 2, "assigned": 1, "running": 0}
    day = stats["last_day"]
    assert day["jobs"] == {"succeeded": 2, "failed": 1, "cancelled": 0, "timeout": 0}
    assert day["causes"] == {"ERR_1007": 1}
    assert (day["workers_made"], day["workers_connected"]) == (6, 4)
    assert 0 <= day["start_p50_s"] <= day["start_p95_s"]


def test_stats_of_one_that_did_nothing_are_there_too(core: Core) -> None:
    core.provider("here")

    day = provider_admin.provider_stats(core.platform, "here")["last_day"]

    assert (day["workers_made"], day["start_p50_s"]) == (0, None)


@pytest.mark.parametrize("call", ["get", "change", "stats", "remove"])
def test_an_unknown_one_is_not_found(core: Core, call: str) -> None:
    calls = {
        "get": lambda: providers.get_provider(core.platform, "none"),
        "change": lambda: change(core, "none", priority=1),
        "stats": lambda: provider_admin.provider_stats(core.platform, "none"),
        "remove": lambda: remove(core, "none"),
    }

    assert isinstance(refused(calls[call]), NotFound)
