"""Runs of pipelines: what starts when, what is skipped, what is handed on, and how a run ends."""

from __future__ import annotations

from uuid import UUID

import pytest
from support.core import Core, refused
from support.core_pipelines import (
    end_node,
    events,
    job,
    nodes,
    pipeline,
    run,
    state_of,
    states,
    tick,
    told,
)

from hodei.domain.job import JobSpec
from hodei.domain.pipeline import PipelineState
from hodei.domain.pipeline_definition import Param
from hodei.errors import Conflict, InvalidInput, NotFound
from hodei.services.delete import delete_job
from hodei.services.idempotency import RequestKey
from hodei.services.pipelines.change import Changes, change_pipeline, delete_pipeline
from hodei.services.pipelines.create import NewPipeline, create_pipeline
from hodei.services.pipelines.read import get_pipeline, get_run, list_runs, wait_for_run
from hodei.services.pipelines.runs import cancel_run, resume_run, start_run
from hodei.services.submit import NewJob, submit_job
from hodei.services.why import explain


@pytest.fixture(autouse=True)
def _provider(core: Core) -> None:
    core.provider("a")


def end(core: Core, run_id: UUID, *keys: str, state: str = "SUCCEEDED", **outputs: str) -> dict[str, str]:
    """End these nodes' jobs, and let the clock look; the states of all nodes then."""
    for key in keys:
        end_node(core, run_id, key, state, outputs)
    tick(core)
    return states(core, run_id)


def test_a_job_starts_when_all_that_it_needs_succeeded_and_not_before(core: Core) -> None:
    run_id = run(core, job("build"), job("lint"), job("test", "build", "lint"))
    tick(core)

    assert states(core, run_id) == {"build": "SUBMITTED", "lint": "SUBMITTED", "test": "WAITING"}
    assert end(core, run_id, "build")["test"] == "WAITING"
    assert end(core, run_id, "lint")["test"] == "SUBMITTED"
    assert end(core, run_id, "test")["test"] == "SUCCEEDED"
    assert state_of(core, run_id) == "SUCCEEDED"
    assert events(core, run_id) == ["PipelineRunStarted", "PipelineRunEnded"]


def test_a_runs_jobs_are_run_to_their_end_as_any_job_is_and_a_message_after_each_advances_it(
    core: Core,
) -> None:
    run_id = run(core, job("one"), job("two", "one"))
    for key in ("one", "two"):
        core.drain()
        job_id = nodes(core, run_id)[key].job_id
        worker_id = core.job(job_id).worker_id
        core.connect(worker_id)
        core.drain()
        core.perform(worker_id)
        core.drain()

    assert state_of(core, run_id) == "SUCCEEDED"
    assert core.events(job_id) == [
        "JobCreated", "JobAssigned", "JobAccepted", "JobStatusChanged RUNNING", "JobStatusChanged SUCCEEDED",
    ]  # fmt: skip


def test_a_failure_skips_what_needs_success_and_all_that_follows_and_starts_what_waits_for_it(
    core: Core,
) -> None:
    # given
    run_id = run(
        core,
        job("build"), job("test", "build"), job("ship", "test"),
        job("alarm", "build", when="failure"), job("tidy", "ship", when="always"), job("calm", "test", when="failure"),
    )  # fmt: skip
    tick(core)

    # when
    after = end(core, run_id, "build", state="FAILED")

    # then
    assert after == {
        "build": "FAILED", "test": "SKIPPED", "ship": "SKIPPED", "alarm": "SUBMITTED", "tidy": "SUBMITTED", "calm": "SKIPPED",
    }  # fmt: skip
    assert nodes(core, run_id)["test"].reason == "Its needs did not all succeed: build failed."
    assert nodes(core, run_id)["ship"].reason == "Its needs did not all succeed: test was skipped."
    assert nodes(core, run_id)["calm"].reason == "It runs when one of its needs failed, and none did."
    end(core, run_id, "alarm", "tidy")
    assert state_of(core, run_id) == "FAILED"
    skipped = {
        node["node"] for event in told(core, run_id, "PipelineNodesSkipped") for node in event["nodes"]
    }
    assert skipped == {"test", "ship", "calm"}


@pytest.mark.parametrize(
    ("end_state", "alarmed"), [("TIMEOUT", True), ("FAILED", True), ("CANCELLED", False)]
)
def test_a_time_out_is_a_failure_and_a_job_that_was_cancelled_alone_is_none_but_no_success(
    core: Core, end_state: str, alarmed: bool
) -> None:
    run_id = run(core, job("a"), job("next", "a"), job("alarm", "a", when="failure"))
    tick(core)

    after = end(core, run_id, "a", state=end_state)

    assert after["next"] == "SKIPPED"
    assert after["alarm"] == ("SUBMITTED" if alarmed else "SKIPPED")
    if alarmed:
        end(core, run_id, "alarm")
    assert state_of(core, run_id) == "FAILED"


def test_a_matrix_is_a_job_for_each_combination_and_who_needs_it_waits_for_all(core: Core) -> None:
    matrix = {"os": ("a", "b"), "py": ("3.11", "3.12")}
    run_id = run(core, job("test", matrix=matrix, env={"WHERE": "${{ matrix.os }}"}), job("ship", "test"))
    tick(core)
    keys = [f"test[os={os},py={py}]" for os in ("a", "b") for py in ("3.11", "3.12")]

    assert list(states(core, run_id)) == [*keys, "ship"]
    where = [JobSpec.from_json(core.job(nodes(core, run_id)[key].job_id).spec).env["WHERE"] for key in keys]
    assert where == ["a", "a", "b", "b"]
    assert end(core, run_id, *keys[:3])["ship"] == "WAITING"
    assert end(core, run_id, keys[3])["ship"] == "SUBMITTED"


def test_what_a_job_wrote_is_handed_on_with_parameters_and_labels(core: Core) -> None:
    # given
    made = pipeline(
        core,
        job("build"),
        job(
            "ship", "build", name="ship ${{ params.to }}", labels={"tag": "${{ needs.build.outputs.tag }}"},
            env={"TAG": "${{ needs.build.outputs.tag }}", "N": "${{run.number}}", "S": "${{ needs.build.status }}"},
            args=("--to", "${{ params.to }}"), image="img:${{ needs.build.outputs.tag }}", priority=7,
        ),
        params={"to": Param(default="earth")},
    )  # fmt: skip
    run_id = UUID(str(start_run(core.platform, made, {"to": "moon"}, actor="test")["id"]))
    tick(core)

    # when
    end(core, run_id, "build", tag="v1")

    # then
    shipped = core.job(nodes(core, run_id)["ship"].job_id)
    spec = JobSpec.from_json(shipped.spec)
    assert (shipped.name, spec.image, spec.args, shipped.priority) == (
        "ship moon",
        "img:v1",
        ("--to", "moon"),
        7,
    )
    assert spec.env == {"TAG": "v1", "N": "1", "S": "succeeded"}
    assert shipped.labels == {
        "tag": "v1", "hodei.io/pipeline": "p", "hodei.io/run": str(run_id), "hodei.io/node": "ship",
    }  # fmt: skip
    assert (shipped.pipeline_id, shipped.pipeline_run_id, shipped.pipeline_node) == (made, run_id, "ship")
    assert nodes(core, run_id)["build"].outputs == {"tag": "v1"}
    assert f"node ship of run {run_id}" in " ".join(explain(core.platform, shipped.id)["details"])


def test_an_output_that_was_not_written_fails_the_job_that_wants_it_with_a_sentence(core: Core) -> None:
    run_id = run(
        core,
        job("build"),
        job("ship", "build", env={"TAG": "${{ needs.build.outputs.tag }}"}),
        job("tidy", "ship", when="always"),
    )
    tick(core)

    after = end(core, run_id, "build", other="x")

    assert after == {"build": "SUCCEEDED", "ship": "FAILED", "tidy": "SUBMITTED"}
    assert nodes(core, run_id)["ship"].reason == (
        "env.TAG: build wrote no output tag: it must write tag=VALUE into the file that $HODEI_OUTPUT names."
    )
    assert told(core, run_id, "PipelineNodesRefused")[0]["count"] == 1


def test_the_outputs_of_a_matrix_are_an_object_and_those_of_what_did_not_run_are_empty(core: Core) -> None:
    run_id = run(
        core,
        job("m", matrix={"n": ("1", "2")}),
        job("bad"),
        job("never", "bad"),
        job(
            "sum",
            "m",
            "never",
            when="always",
            env={"ALL": "${{ needs.m.outputs.x }}", "NO": "${{needs.never.outputs.x}}"},
        ),
    )
    tick(core)
    end(core, run_id, "bad", state="FAILED")
    end(core, run_id, "m[n=1]", x="one")
    end(core, run_id, "m[n=2]")

    env = JobSpec.from_json(core.job(nodes(core, run_id)["sum"].job_id).spec).env
    assert env == {"ALL": '{"m[n=1]": "one"}', "NO": ""}


def test_at_most_max_parallel_jobs_of_a_run_are_there_at_a_time(core: Core) -> None:
    run_id = run(core, *(job(f"j{n}") for n in range(5)), max_parallel=2)
    tick(core)

    assert list(states(core, run_id).values()) == ["SUBMITTED"] * 2 + ["READY"] * 3
    end(core, run_id, "j0")
    assert list(states(core, run_id).values()) == ["SUCCEEDED"] + ["SUBMITTED"] * 2 + ["READY"] * 2
    assert tick(core) == 0


def test_a_cancel_ends_what_waits_at_once_and_what_runs_as_any_job_is_cancelled(core: Core) -> None:
    # given
    run_id = run(core, job("one"), job("two"), job("three", "one", "two", when="always"))
    tick(core)
    end(core, run_id, "two")

    # when
    cancel_run(core.platform, run_id, actor="test")
    cancel_run(core.platform, run_id, actor="test")
    core.drain()

    # then
    assert states(core, run_id) == {"one": "CANCELLED", "two": "SUCCEEDED", "three": "CANCELLED"}
    assert core.events(nodes(core, run_id)["one"].job_id)[:3] == [
        "JobCreated",
        "JobCancelRequested",
        "JobStatusChanged CANCELLED",
    ]
    assert state_of(core, run_id) == "CANCELLED"
    assert events(core, run_id).count("PipelineRunCancelRequested") == 1
    assert cancel_run(core.platform, run_id, actor="test")["status"] == "cancelled"


def test_resumed_it_does_again_what_did_not_succeed_and_keeps_the_rest(core: Core) -> None:
    # given
    run_id = run(
        core, job("a"), job("b", "a", env={"X": "${{ needs.a.outputs.x }}"}), job("c", "b"), job("d")
    )
    tick(core)
    end(core, run_id, "a", "d", x="kept")
    end(core, run_id, "b", state="FAILED")
    assert state_of(core, run_id) == "FAILED"
    first = nodes(core, run_id)["b"].job_id

    # when
    again = resume_run(core.platform, run_id, actor="test")
    core.drain()

    # then
    assert (again["status"], again["resumed"]) == ("running", 1)
    b = nodes(core, run_id)["b"]
    assert (b.state, b.nth_try) == ("SUBMITTED", 2) and b.job_id != first
    assert JobSpec.from_json(core.job(b.job_id).spec).env == {"X": "kept"}
    end(core, run_id, "b")
    end(core, run_id, "c")
    assert state_of(core, run_id) == "SUCCEEDED"
    assert len(core.sql("SELECT 1 FROM jobs WHERE pipeline_run_id = :id", id=run_id)) == 5
    assert isinstance(refused(lambda: resume_run(core.platform, run_id, actor="test")), Conflict)


def test_a_run_that_was_cancelled_goes_on_when_it_is_resumed(core: Core) -> None:
    run_id = run(core, job("a"), job("b", "a"))
    tick(core)
    cancel_run(core.platform, run_id, actor="test")
    core.drain()

    resume_run(core.platform, run_id, actor="test")
    core.drain()

    assert states(core, run_id) == {"a": "SUBMITTED", "b": "WAITING"}
    assert end(core, run_id, "a")["b"] == "SUBMITTED"


def test_a_message_that_comes_twice_or_never_changes_nothing(core: Core) -> None:
    run_id = run(core, job("a"), job("b", "a"))
    for _ in range(3):
        core.deliver(("advance", run_id))
    assert core.sql("SELECT count(*) AS n FROM jobs")[0].n == 1

    end_node(core, run_id, "a")
    core.courier.kept.clear()
    assert tick(core) == 1 and tick(core) == 0
    for _ in range(3):
        core.deliver(("advance", run_id))

    assert states(core, run_id) == {"a": "SUCCEEDED", "b": "SUBMITTED"}
    assert core.sql("SELECT count(*) AS n FROM jobs")[0].n == 2


def test_who_finds_a_run_being_advanced_leaves_it_to_the_other(core: Core) -> None:
    run_id = run(core, job("a"))
    with core.database.begin() as tx:
        tx.row("run_lock", id=run_id)
        core.deliver(("advance", run_id))
        assert states(core, run_id) == {"a": "WAITING"}

    assert tick(core) == 1
    assert states(core, run_id) == {"a": "SUBMITTED"}


def test_a_job_that_was_deleted_before_anybody_looked_has_failed(core: Core) -> None:
    run_id = run(core, job("a"))
    tick(core)
    end_node(core, run_id, "a")
    delete_job(core.platform, nodes(core, run_id)["a"].job_id, actor="test")

    tick(core)

    assert (state_of(core, run_id), nodes(core, run_id)["a"].reason) == ("FAILED", "Its job was deleted.")


def test_secrets_of_jobs_are_kept_apart_and_each_job_gets_its_own(core: Core) -> None:
    made = pipeline(
        core, job("a", secrets=("T",)), job("b", secrets=("T",)), job("c", "a"),
        secrets={"a": {"T": "of a"}, "b": {"T": "of b"}},
    )  # fmt: skip
    run_id = UUID(str(start_run(core.platform, made, {}, actor="test")["id"]))
    tick(core)

    def secrets(owner: UUID) -> list[str]:
        rows = core.sql("SELECT ciphertext FROM hodei.secrets WHERE owner_id = :id", id=owner)
        return [core.platform.vault.decrypt(row.ciphertext) for row in rows]

    assert secrets(nodes(core, run_id)["a"].job_id) == ["of a"]
    assert secrets(nodes(core, run_id)["b"].job_id) == ["of b"]
    assert get_pipeline(core.platform, made)["jobs"][0]["secret_env"] == ["T"]
    assert "of a" not in str(core.sql("SELECT * FROM hodei.pipeline_run_jobs"))

    # a change of the jobs takes their secrets away; what wants them then says so
    change_pipeline(core.platform, made, Changes(jobs=(job("a"),)), actor="test")
    end(core, run_id, "a", state="FAILED")
    end(core, run_id, "b")
    resume_run(core.platform, run_id, actor="test")
    core.drain()
    assert nodes(core, run_id)["a"].reason == "The pipeline has no secret T of the job a any more."


def test_a_run_keeps_the_jobs_that_it_began_with_whatever_becomes_of_the_pipeline(core: Core) -> None:
    run_id = run(core, job("a"), job("b", "a", command="echo old"))
    made = get_run(core.platform, run_id)["pipeline_id"]
    tick(core)

    changed = change_pipeline(core.platform, made, Changes(jobs=(job("z"),)), actor="test")
    end(core, run_id, "a")

    assert changed["version"] == 2
    assert JobSpec.from_json(core.job(nodes(core, run_id)["b"].job_id).spec).command == "echo old"
    later = start_run(core.platform, made, {}, actor="test")
    assert ([node["key"] for node in later["nodes"]], later["number"], later["version"]) == (["z"], 2, 2)


def test_a_pipeline_with_a_run_that_is_going_is_not_deleted_and_afterwards_its_jobs_stay(core: Core) -> None:
    run_id = run(core, job("a", secrets=("T",)), secrets={"a": {"T": "long enough"}})
    made = get_run(core.platform, run_id)["pipeline_id"]
    tick(core)
    assert isinstance(refused(lambda: delete_pipeline(core.platform, made, actor="test")), Conflict)

    end(core, run_id, "a")
    job_id = nodes(core, run_id)["a"].job_id
    delete_pipeline(core.platform, made, actor="test")

    assert core.job(job_id).pipeline_id == made
    assert isinstance(refused(lambda: get_run(core.platform, run_id)), NotFound)
    assert isinstance(refused(lambda: get_pipeline(core.platform, made)), NotFound)
    owners = core.sql("SELECT DISTINCT owner_id FROM hodei.secrets")
    assert {row.owner_id for row in owners} == {job_id}


def test_one_pipeline_has_a_name_and_a_disabled_one_begins_no_run(core: Core) -> None:
    made = pipeline(core, job("a"), name="release")

    assert isinstance(refused(lambda: pipeline(core, job("a"), name="release")), Conflict)
    change_pipeline(core.platform, made, Changes(state=PipelineState.DISABLED), actor="test")
    error = refused(lambda: start_run(core.platform, made, {}, actor="test"))
    assert isinstance(error, Conflict) and "disabled" in error.message
    plain = create_pipeline(core.platform, NewPipeline(name="plain"), actor="test")
    assert (plain["status"], plain["jobs"], plain["description"]) == ("active", None, "")
    assert isinstance(refused(lambda: start_run(core.platform, plain["id"], {}, actor="test")), Conflict)


def test_parameters_have_their_defaults_and_what_is_missing_or_unknown_is_named(core: Core) -> None:
    made = pipeline(
        core, job("a"), params={"version": Param(required=True), "to": Param(default="earth"), "x": Param()}
    )

    def why_not(params: dict[str, str]) -> tuple[str, str | None]:
        error = refused(lambda: start_run(core.platform, made, params, actor="test"))
        assert isinstance(error, InvalidInput)
        return error.message, error.field

    assert why_not({}) == ("The parameter version is missing.", "params.version")
    message, field = why_not({"version": "1", "verion": "2"})
    assert "Did you mean version?" in message and field == "params.verion"
    started = start_run(core.platform, made, {"version": "1"}, actor="test")
    assert started["params"] == {"version": "1", "to": "earth", "x": ""}


def test_a_run_that_is_asked_for_twice_under_a_key_is_one(core: Core) -> None:
    made = pipeline(core, job("a"))
    key = RequestKey.of("run", "k", b"")

    first = start_run(core.platform, made, {}, actor="test", key=key)
    second = start_run(core.platform, made, {}, actor="test", key=key)

    assert str(first["id"]) == second["id"]
    assert len(list_runs(core.platform, made).items) == 1


def test_a_job_that_is_attached_names_a_pipeline_that_there_is(core: Core) -> None:
    plain = create_pipeline(core.platform, NewPipeline(name="plain"), actor="test")["id"]
    new = NewJob(name="held", spec=JobSpec(provider="a"), pipeline_id=plain)
    assert submit_job(core.platform, new, actor="test", request_id=None)["held"]

    delete_pipeline(core.platform, plain, actor="test")
    error = refused(lambda: submit_job(core.platform, new, actor="test", request_id=None))

    assert isinstance(error, NotFound) and error.field == "pipeline_id"


def test_waiting_for_a_run_ends_with_it(core: Core) -> None:
    run_id = run(core, job("a"))
    tick(core)
    assert wait_for_run(core.platform, run_id, 0)["status"] == "running"
    end(core, run_id, "a")

    assert wait_for_run(core.platform, run_id, 30)["status"] == "succeeded"
    assert f"run:{run_id}" in core.wakeups.woken
