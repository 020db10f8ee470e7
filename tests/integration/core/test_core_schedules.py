"""Schedules: from a time to a job, and everything that may come between."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy.exc import IntegrityError
from support.core import Core, refused
from support.core_schedules import (
    definition,
    end_job,
    events,
    jobs_of,
    put_back,
    row_of,
    schedule,
    states,
    tick,
)

from hodei.domain.job import JobSpec
from hodei.errors import Conflict, InvalidInput, NotFound
from hodei.services.delete import delete_job
from hodei.services.execute import execute
from hodei.services.idempotency import RequestKey
from hodei.services.retry import retry_job
from hodei.services.schedules.change import change_schedule, delete_schedule
from hodei.services.schedules.create import NewSchedule, create_schedule, validate
from hodei.services.schedules.fire import NO_COMMAND, NO_SECRETS, STILL_GOING, trigger_schedule
from hodei.services.schedules.read import get_schedule, list_firings, list_schedules, list_upcoming
from hodei.services.why import explain

MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def _provider(core: Core) -> None:
    core.provider("a")


def change(core: Core, schedule_id: UUID, **changes: object) -> dict[str, object]:
    return change_schedule(core.platform, schedule_id, changes, actor="test")


def trigger(core: Core, schedule_id: UUID, key: RequestKey | None = None) -> dict[str, object]:
    return trigger_schedule(core.platform, schedule_id, actor="test", key=key)


def test_a_time_that_comes_is_a_job_of_its_own_with_all_of_its_definition(core: Core) -> None:
    # given
    made_of = definition(core, "echo $A", env={"A": "1"}, retries=2, secrets={"TOKEN": "abcd"})
    schedule_id = schedule(core, made_of)
    time = put_back(core, schedule_id)

    # when
    tick(core)
    tick(core)

    # then
    [job] = jobs_of(core, schedule_id)
    assert (job.scheduled_for, job.state, job.held) == (time, "PENDING", False)
    assert (job.name, job.priority, job.labels, job.max_attempts) == ("nightly", 3, {"team": "data"}, 3)
    assert JobSpec.from_json(job.spec) == JobSpec.from_json(core.job(made_of).spec)
    assert job.id != made_of and core.job(made_of).held
    [secret] = core.sql("SELECT ciphertext FROM hodei.secrets WHERE owner_id = :id", id=job.id)
    assert core.platform.vault.decrypt(secret.ciphertext) == "abcd"
    assert core.events(job.id) == ["JobCreated"]
    assert [told["job_id"] for told in events(core, schedule_id, "ScheduleFired")] == [str(job.id)]
    assert row_of(core, schedule_id).next_at == time + MINUTE
    assert row_of(core, schedule_id).last_at == time


def test_a_firing_runs_to_its_end_as_any_job_does(core: Core) -> None:
    schedule_id = schedule(core)
    put_back(core, schedule_id)

    tick(core)
    core.drain()
    [job] = jobs_of(core, schedule_id)
    core.connect(job.worker_id)
    core.drain()
    core.perform(job.worker_id)
    core.drain()

    assert states(core, schedule_id) == ["SUCCEEDED"]


def test_a_time_is_there_once_even_for_who_knows_no_rule(core: Core) -> None:
    schedule_id = schedule(core)
    time = put_back(core, schedule_id)
    tick(core)

    with pytest.raises(IntegrityError):
        core.sql(
            "INSERT INTO jobs (id, name, spec, state, correlation_id, schedule_id, scheduled_for)"
            " VALUES (:id, 'x', '{}', 'PENDING', :id, :schedule, :time)",
            id=uuid4(), schedule=schedule_id, time=time,
        )  # fmt: skip
    put_back(core, schedule_id)
    tick(core)
    assert len(jobs_of(core, schedule_id)) == 1


def test_what_is_not_due_does_not_fire(core: Core) -> None:
    schedule_id = schedule(core, cron="0 0 1 1 *", start_at="2100-01-01T00:00:00Z")

    assert tick(core) == 0
    assert jobs_of(core, schedule_id) == []
    assert row_of(core, schedule_id).next_at.year == 2100


def test_jitter_puts_a_firing_off_and_leaves_its_time(core: Core) -> None:
    schedule_id = schedule(core, jitter_s=1000.0)
    row = row_of(core, schedule_id)
    put_off = row.next_due_at - row.next_at

    assert timedelta() <= put_off < timedelta(seconds=1000)
    core.sql(
        "UPDATE hodei.schedules SET next_at = next_at - interval '1 h', next_due_at = clock_timestamp() - interval '1 s'"
    )
    tick(core)
    times = [job.scheduled_for for job in jobs_of(core, schedule_id)]
    assert times and all(time.second == 0 for time in times)


@pytest.mark.parametrize(
    ("catch_up", "limit", "fired", "missed"),
    [("none", 100, [0], 9), ("last", 100, [0], 9), ("all", 100, list(range(9, -1, -1)), 0), ("all", 3, [3, 2, 1, 0], 6)],
)  # fmt: skip
def test_times_that_were_missed_are_made_up_for_as_catch_up_says(
    core: Core, catch_up: str, limit: int, fired: list[int], missed: int
) -> None:
    schedule_id = schedule(
        core, catch_up=_catch_up(catch_up), catch_up_limit=limit, overlap=_overlap("allow")
    )
    first = put_back(core, schedule_id, minutes=9)

    tick(core)

    ago = [round((first + 9 * MINUTE - job.scheduled_for) / MINUTE) for job in jobs_of(core, schedule_id)]
    told = events(core, schedule_id, "ScheduleTimesMissed")
    assert [minute for minute in ago if minute >= 0] == fired
    assert sum(event["count"] for event in told) == missed
    if missed:
        assert told[0]["first"] == first.isoformat()


def _catch_up(word: str) -> object:
    from hodei.domain.schedule import CatchUp

    return CatchUp(word)


def _overlap(word: str) -> object:
    from hodei.domain.schedule import Overlap

    return Overlap(word)


def fire_twice(core: Core, overlap: str) -> UUID:
    """Two times, one after the other, of which the first's job has not ended."""
    schedule_id = schedule(core, overlap=_overlap(overlap), catch_up=_catch_up("all"))
    put_back(core, schedule_id, minutes=1)
    core.sql("UPDATE hodei.schedules SET end_at = next_at + interval '1 min' WHERE id = :id", id=schedule_id)
    tick(core)
    return schedule_id


def test_overlap_skip_leaves_a_time_out_and_says_so(core: Core) -> None:
    schedule_id = fire_twice(core, "skip")

    assert states(core, schedule_id) == ["PENDING"]
    assert [told["reason"] for told in events(core, schedule_id, "ScheduleFiringSkipped")] == [STILL_GOING]
    assert [f["outcome"] for f in list_firings(core.platform, schedule_id).items] == ["skipped", "fired"]


def test_overlap_allow_has_both(core: Core) -> None:
    assert states(core, fire_twice(core, "allow")) == ["PENDING", "PENDING"]


def test_overlap_queue_lets_them_run_one_after_the_other(core: Core) -> None:
    # given
    schedule_id = fire_twice(core, "queue")
    first, second = (job.id for job in jobs_of(core, schedule_id))
    assert states(core, schedule_id) == ["PENDING", "held"]
    assert [f["outcome"] for f in list_firings(core.platform, schedule_id).items] == ["waiting", "fired"]

    # when nothing has changed, nothing does
    tick(core)
    assert states(core, schedule_id) == ["PENDING", "held"]
    why = explain(core.platform, second)
    assert why["summary"] == "It waits for the schedule's runs before it: they must not overlap."
    assert why["details"][0] == f"Before it: job {first}, which is PENDING."
    with pytest.raises(Conflict, match="run of a schedule"):
        execute(core.platform, second, None, actor="test", wait_s=0.0)

    # then
    end_job(core, first)
    tick(core)
    assert states(core, schedule_id) == ["SUCCEEDED", "PENDING"]
    assert core.job(second).queued_at > core.job(second).created_at


def test_overlap_replace_cancels_what_goes_and_starts_when_it_is_gone(core: Core) -> None:
    # given a job that has been given to a worker
    schedule_id = schedule(core, overlap=_overlap("replace"))
    first = trigger(core, schedule_id)["job_id"]
    core.drain()
    core.connect(core.job(first).worker_id)
    core.drain()

    # when
    second = trigger(core, schedule_id)

    # then
    assert core.job(first).cancel_requested_at is not None
    assert (second["outcome"], states(core, schedule_id)[1]) == ("waiting", "held")
    end_job(core, first, "CANCELLED")
    tick(core)
    assert states(core, schedule_id) == ["CANCELLED", "PENDING"]
    third = trigger(core, schedule_id)
    assert third["outcome"] == "fired"  # the second was still in the queue: it ended with the cancel
    assert states(core, schedule_id) == ["CANCELLED", "CANCELLED", "PENDING"]


def test_a_definition_without_a_command_is_skipped_with_an_event_that_says_so(core: Core) -> None:
    schedule_id = schedule(core, definition(core, None))
    time = put_back(core, schedule_id)

    tick(core)

    assert jobs_of(core, schedule_id) == []
    [told] = events(core, schedule_id, "ScheduleFiringSkipped")
    assert told == {"scheduled_for": time.isoformat(), "kind": "time", "reason": NO_COMMAND}
    assert row_of(core, schedule_id).next_at == time + MINUTE


def test_a_schedule_may_bring_the_command(core: Core) -> None:
    schedule_id = schedule(core, definition(core, None), command="echo mine")

    job = core.job(trigger(core, schedule_id)["job_id"])

    assert job.spec["command"] == "echo mine"
    assert not job.held


def test_a_provider_that_is_not_there_any_more_is_a_reason_and_no_failure(core: Core) -> None:
    schedule_id = schedule(core)
    core.sql("UPDATE provider_configs SET name = 'b'")

    fired = trigger(core, schedule_id)

    assert (fired["outcome"], fired["job_id"]) == ("skipped", None)
    assert "There is no provider 'a'" in str(fired["reason"])


def test_a_run_is_not_cancelled_for_one_that_cannot_be(core: Core) -> None:
    schedule_id = schedule(core, overlap=_overlap("replace"))
    going = trigger(core, schedule_id)["job_id"]
    core.sql("UPDATE provider_configs SET name = 'b'")

    assert trigger(core, schedule_id)["outcome"] == "skipped"

    assert core.job(going).cancel_requested_at is None


def test_it_is_paused_after_so_many_failures_in_a_row(core: Core) -> None:
    # given
    schedule_id = schedule(core, pause_after_failures=2)

    # when two runs fail, with a success between them
    for state in ("FAILED", "SUCCEEDED", "TIMEOUT"):
        end_job(core, trigger(core, schedule_id)["job_id"], state)
        tick(core)
        assert row_of(core, schedule_id).state == "ACTIVE"
    end_job(core, trigger(core, schedule_id)["job_id"], "FAILED")
    put_back(core, schedule_id)
    tick(core)

    # then it fires no more until it is resumed, and counts anew
    assert len(jobs_of(core, schedule_id)) == 4
    shown = get_schedule(core.platform, schedule_id)
    assert (shown["status"], shown["failures"], shown["next_at"]) == ("paused", 2, None)
    assert shown["reason"] == "It was paused because its run failed 2 times in a row."
    change(core, schedule_id, status="scheduled")
    assert (row_of(core, schedule_id).state, row_of(core, schedule_id).failures) == ("ACTIVE", 0)


def test_a_job_that_was_deleted_counts_as_nothing_and_holds_up_nothing(core: Core) -> None:
    schedule_id = schedule(core, pause_after_failures=1)
    job_id = trigger(core, schedule_id)["job_id"]
    end_job(core, job_id, "FAILED")
    delete_job(core.platform, job_id, actor="test")

    tick(core)

    assert row_of(core, schedule_id).state == "ACTIVE"
    assert trigger(core, schedule_id)["outcome"] == "fired"
    assert tick(core) == 0


def test_times_that_go_by_during_a_pause_are_not_made_up_for(core: Core) -> None:
    schedule_id = schedule(core, catch_up=_catch_up("all"))
    put_back(core, schedule_id, minutes=5)

    paused = change(core, schedule_id, status="paused")
    change(core, schedule_id, status="paused")
    tick(core)
    resumed = change(core, schedule_id, status="scheduled")
    change(core, schedule_id, status="scheduled")

    assert (paused["status"], paused["next_at"], resumed["status"]) == ("paused", None, "scheduled")
    assert jobs_of(core, schedule_id) == []
    assert resumed["next_at"] > core.sql("SELECT clock_timestamp() AS now")[0].now
    assert (
        len(events(core, schedule_id, "SchedulePaused"))
        == len(events(core, schedule_id, "ScheduleResumed"))
        == 1
    )
    assert len(list_upcoming(core.platform, schedule_id, count=4)) == 4


def soon(core: Core, seconds: float) -> str:
    now = core.sql("SELECT clock_timestamp() AS now")[0].now
    return (now + timedelta(seconds=seconds)).isoformat()


def test_a_single_time_fires_once_and_that_was_it(core: Core) -> None:
    schedule_id = schedule(core, schedule_time=soon(core, -2))

    tick(core)
    tick(core)

    assert len(jobs_of(core, schedule_id)) == 1
    assert get_schedule(core.platform, schedule_id)["status"] == "ended"
    assert [told["reason"] for told in events(core, schedule_id, "ScheduleEnded")] == ["Its time has come."]
    assert isinstance(refused(lambda: change(core, schedule_id, status="scheduled")), Conflict)
    again = change(core, schedule_id, schedule_time=soon(core, 3600))
    assert (again["status"], again["cron"]) == ("scheduled", None)


def test_a_single_time_that_was_missed_is_made_up_for_unless_catch_up_is_none(core: Core) -> None:
    made = {
        word: schedule(core, schedule_time=soon(core, 60), catch_up=_catch_up(word))
        for word in ("none", "last")
    }
    core.sql("UPDATE hodei.schedules SET schedule_time = schedule_time - interval '1 h', next_at = next_at - interval '1 h',"
             " next_due_at = next_due_at - interval '1 h'")  # fmt: skip

    tick(core)

    assert {word: len(jobs_of(core, each)) for word, each in made.items()} == {"none": 0, "last": 1}
    assert "missed" in str(get_schedule(core.platform, made["none"])["reason"])


def test_a_schedule_whose_end_has_come_has_ended(core: Core) -> None:
    schedule_id = fire_twice(core, "allow")

    shown = get_schedule(core.platform, schedule_id)

    assert (shown["status"], shown["next_at"]) == ("ended", None)
    assert len(jobs_of(core, schedule_id)) == 2
    assert list_upcoming(core.platform, schedule_id) == []


def test_a_trigger_with_a_key_fires_once(core: Core) -> None:
    schedule_id = schedule(core)
    key = RequestKey.of("POST trigger", "once", b"")

    first, again = trigger(core, schedule_id, key), trigger(core, schedule_id, key)

    assert str(first["job_id"]) == again["job_id"]
    assert first["kind"] == "trigger"
    assert len(jobs_of(core, schedule_id)) == 1


def test_a_trigger_fires_also_what_is_paused_and_leaves_it_so(core: Core) -> None:
    schedule_id = schedule(core)
    change(core, schedule_id, status="paused")

    assert trigger(core, schedule_id)["outcome"] == "fired"
    assert trigger(core, schedule_id)["outcome"] == "skipped"
    assert row_of(core, schedule_id).state == "PAUSED"


def test_secrets_stay_with_the_schedule_and_are_refused_where_they_are_gone(core: Core) -> None:
    # given
    made_of = definition(core, secrets={"TOKEN": "abcd"})
    schedule_id = schedule(core, made_of)

    # when the job's own are forgotten, as at its end
    core.sql("DELETE FROM hodei.secrets WHERE owner_id = :id", id=made_of)

    # then
    job_id = trigger(core, schedule_id)["job_id"]
    assert len(core.sql("SELECT 1 FROM hodei.secrets WHERE owner_id = :id", id=job_id)) == 1
    assert isinstance(refused(lambda: schedule(core, made_of)), Conflict)
    end_job(core, job_id)
    core.sql("DELETE FROM hodei.secrets")
    assert trigger(core, schedule_id)["reason"] == NO_SECRETS
    assert "abcd" not in str(core.sql("SELECT payload FROM domain_events"))


def test_a_finished_jobs_definition_may_be_scheduled(core: Core) -> None:
    job_id = core.submit("a", command="echo again")
    end_job(core, job_id)

    schedule_id = schedule(core, job_id)

    assert core.job(trigger(core, schedule_id)["job_id"]).spec["command"] == "echo again"
    assert core.job(job_id).state == "SUCCEEDED"


def test_deleting_a_schedule_leaves_its_jobs_and_cancels_those_that_wait(core: Core) -> None:
    # given
    schedule_id = schedule(core, definition(core, secrets={"TOKEN": "abcd"}), overlap=_overlap("queue"))
    going, waiting = (trigger(core, schedule_id)["job_id"] for _ in range(2))

    # when
    delete_schedule(core.platform, schedule_id, actor="test")

    # then
    assert (core.job(going).state, core.job(waiting).state) == ("PENDING", "CANCELLED")
    assert core.sql("SELECT 1 FROM hodei.secrets WHERE owner_id = :id", id=schedule_id) == []
    assert core.events(schedule_id)[-1] == "ScheduleDeleted"
    for asked in (
        lambda: get_schedule(core.platform, schedule_id),
        lambda: trigger(core, schedule_id),
        lambda: change(core, schedule_id, status="paused"),
        lambda: delete_schedule(core.platform, schedule_id, actor="test"),
        lambda: list_firings(core.platform, schedule_id),
        lambda: list_upcoming(core.platform, schedule_id),
    ):
        assert isinstance(refused(asked), NotFound)
    end_job(core, going)
    assert tick(core) == 0


def test_a_run_that_waited_and_is_asked_for_again_waits_for_no_schedule_that_is_gone(core: Core) -> None:
    # given
    schedule_id = schedule(core, definition(core), overlap=_overlap("queue"))
    _, waiting = (trigger(core, schedule_id)["job_id"] for _ in range(2))
    delete_schedule(core.platform, schedule_id, actor="test")
    assert core.job(waiting).held

    # when
    retry_job(core.platform, waiting, actor="test")

    # then
    assert (core.job(waiting).state, core.job(waiting).held) == ("PENDING", False)


def test_a_definition_that_a_schedule_fires_is_not_deleted_under_it(core: Core) -> None:
    made_of = definition(core)
    schedule_id = schedule(core, made_of)

    error = refused(lambda: delete_job(core.platform, made_of, actor="test"))

    assert isinstance(error, Conflict) and f"hodei schedule delete {schedule_id}" in error.message
    delete_schedule(core.platform, schedule_id, actor="test")
    over = schedule(core, made_of, schedule_time=soon(core, -2))
    tick(core)
    delete_job(core.platform, made_of, actor="test")
    assert isinstance(refused(lambda: get_schedule(core.platform, over)), NotFound)


def test_one_that_cannot_be_read_any_more_is_paused_with_the_reason_and_holds_up_no_other(core: Core) -> None:
    broken, well = schedule(core), schedule(core)
    for each in (broken, well):
        put_back(core, each)
    core.sql("UPDATE hodei.schedules SET timezone = 'Europe/Atlantis' WHERE id = :id", id=broken)

    tick(core)

    assert len(jobs_of(core, well)) == 1
    assert row_of(core, broken).state == "PAUSED"
    assert "There is no time zone 'Europe/Atlantis'" in row_of(core, broken).state_reason


def test_new_times_count_from_now(core: Core) -> None:
    schedule_id = schedule(core)
    put_back(core, schedule_id, minutes=30)

    changed = change(core, schedule_id, cron="0 0 1 1 *", timezone="Asia/Tokyo")

    assert changed["description"] == "At 00:00 on January 1 (Asia/Tokyo)"
    tick(core)
    assert jobs_of(core, schedule_id) == []
    assert row_of(core, schedule_id).next_at.hour == 15
    assert events(core, schedule_id, "ScheduleChanged")[0]["changed"] == ["cron", "timezone"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"cron": "61 * * * *"}, "'61' is not a minute"),
        ({"cron": "* * * * *", "timezone": "Mars/Olympus"}, "There is no time zone"),
        ({"schedule_time": "2001-01-01T00:00:00Z"}, "schedule_time is in the past"),
        ({"cron": "* * * * *", "end_at": "2001-01-01T00:00:00Z"}, "No time that cron names comes before end_at."),
        ({"cron": "@daily", "start_at": "2030-01-02T00:00:00Z", "end_at": "2030-01-01T00:00:00Z"}, "later than start_at"),
        ({"schedule_time": "2090-01-01T00:00:00Z", "end_at": "2091-01-01T00:00:00Z"}, "end_at is for schedules with cron"),
        ({"cron": "0 0 30 2 *"}, "it would never fire"),
    ],
)  # fmt: skip
def test_times_that_will_not_do_are_refused_and_validated_in_the_same_words(
    core: Core, given: dict[str, str], words: str
) -> None:
    new = NewSchedule(job_id=definition(core), **given)
    error = refused(lambda: create_schedule(core.platform, new, actor="test"))

    asked = {"cron": None, "schedule_time": None, "timezone": "UTC", "start_at": None, "end_at": None} | given
    said = validate(core.platform, asked)

    assert isinstance(error, InvalidInput) and words in error.message
    assert (said["valid"], said["message"], said["field"]) == (False, error.message, error.field)


def test_times_that_will_do_are_told_in_words_with_the_first_of_them(core: Core) -> None:
    asked = {
        "cron": "30 2 * * *",
        "schedule_time": None,
        "timezone": "Europe/Berlin",
        "start_at": None,
        "end_at": None,
    }

    said = validate(core.platform, asked)

    assert (said["valid"], said["message"]) == (True, "At 02:30 every day (Europe/Berlin).")
    assert len(said["upcoming"]) == 5
    assert all("T02:30:00+0" in time["local"] or "T03:00:00+02" in time["local"] for time in said["upcoming"])


def test_a_schedule_of_nothing_is_not_found(core: Core) -> None:
    assert isinstance(refused(lambda: schedule(core, uuid4())), NotFound)


def test_lists_come_in_pages_and_by_status_and_job(core: Core) -> None:
    made_of = definition(core)
    made = [schedule(core, made_of) for _ in range(3)]
    other = schedule(core)
    change(core, other, status="paused")

    first = list_schedules(core.platform, limit=3)
    rest = list_schedules(core.platform, limit=3, cursor=first.next_cursor)

    assert [item["id"] for item in first.items + rest.items] == [other, *reversed(made)]
    assert [item["id"] for item in list_schedules(core.platform, status="paused").items] == [other]
    assert {item["id"] for item in list_schedules(core.platform, job_id=made_of).items} == set(made)
    for _ in range(3):
        trigger(core, made[0])
    page = list_firings(core.platform, made[0], limit=2)
    older = list_firings(core.platform, made[0], limit=2, cursor=page.next_cursor)
    assert len(page.items) == 2 and [item["outcome"] for item in older.items] == ["fired"]


def test_why_names_the_schedule(core: Core) -> None:
    made_of = definition(core)
    schedule_id = schedule(core, made_of)
    job_id = trigger(core, schedule_id)["job_id"]

    assert any(
        f"Schedule {schedule_id} made it for" in detail
        for detail in explain(core.platform, job_id)["details"]
    )
    assert (
        f"Schedule {schedule_id} (nightly) fires it next at" in explain(core.platform, made_of)["details"][0]
    )
    change(core, schedule_id, status="paused")
    assert "is paused" in explain(core.platform, made_of)["details"][0]
