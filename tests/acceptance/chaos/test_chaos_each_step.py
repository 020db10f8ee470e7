"""A controller is killed with -9 in the middle of each step of each saga: another one takes over, and the end is the same."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import pytest
from support.chaos_arena import SCALED, Arena, open_arena
from support.chaos_docker import signal_if_same
from support.chaos_hold import Holder, Place
from support.chaos_witness import Witness, read_witness
from support.contract import SAGA_STEPS
from support.waiting import until

UNDOINGS = [
    ("PROVISIONING", "CreateInfrastructure"),
    ("PROVISIONING", "RegisterWorker"),
    ("PROVISIONING", "ValidateProviderCapacity"),
    ("EXECUTION", "AssignWorker"),
]
SEED = 4
SCALE = replace(SCALED, give_up_after=180)
"""An agent that stands still runs out of its job's time (TIMEOUT) long before it is given up (RECOVERY)."""

TIMEOUT_S = 15
"""Long enough for its agent to be stopped before; the clock waits as long again for the agent."""

PATIENT = {"cancel_s": 600, "start_s": 600}
"""With a controller killed every second a cancel may take longer than the usual minute before it is confirmed."""

ENDED_WITHIN_S = 180.0
GONE_WITHIN_S = 60.0
TERMINAL = {"SUCCEEDED", "FAILED", "CANCELLED", "TIMEOUT"}

PLACES = [(saga, step, "COMPLETED") for saga, steps in SAGA_STEPS.items() for step in steps]
PLACES += [(saga, step, "COMPENSATED") for saga, step in UNDOINGS]


@dataclass(frozen=True, kw_only=True)
class Injected:
    """What came of it all: who was killed where, and each place's job as the tables and its witness have it."""

    killed: dict[Place, str]
    ends: dict[str, tuple[str, str, int, str | None]]
    words: dict[str, str]
    witness: Witness
    left: list[str]
    stranger_left: bool


def name_of(saga: str, step: str, to_state: str) -> str:
    return f"{saga}-{step}-{to_state}"


@pytest.fixture(scope="module")
def injected(servers_kind: str) -> Iterator[Injected]:
    """One job for each place, all at once, on four controllers; each place kills one of them."""
    names = ("serve", "controller", "controller-2", "beat")
    with open_arena(servers_kind, seed=SEED, scale=SCALE, workers=(len(PLACES), 0), names=names) as arena:
        stranger = leave_a_worker_behind(arena)
        try:
            with Holder(arena) as holder:
                killed = inject(arena, holder)
            yield read(arena, killed, stranger)
        finally:
            stranger.kill()
            stranger.wait()


def inject(arena: Arena, holder: Holder) -> dict[Place, str]:
    """Have every saga run for a job of its own, and kill at each place; wait until all jobs have ended all the same."""
    places = {each: place_of(*each) for each in PLACES}
    pauses = {name_of(*each): pause_of(*each) for each in PLACES if is_undone_provisioning(*each)}
    holder.start([*places.values(), *pauses.values()])
    jobs = {name_of(*each): begin(arena, *each) for each in PLACES if each[0] != "CLEANUP"}
    waiting = dict(jobs)

    def all_brought_about() -> bool:
        for name, job_id in list(waiting.items()):
            pause = pauses.get(name)
            if bring_about(arena, name, job_id) if pause is None else undo(arena, holder, pause, job_id):
                del waiting[name]
        return not waiting

    until(all_brought_about, within_s=ENDED_WITHIN_S, what=f"what the sagas are there for: {waiting}")
    jobs["orphan"] = lose_the_row_of_a_worker(arena)
    deadline = time.monotonic() + ENDED_WITHIN_S
    while len(holder.killed) < len(places) and time.monotonic() < deadline:
        time.sleep(0.1)
    for place in places.values():
        if place not in holder.killed:
            print(f"nobody came to {place}\n{arena.words(jobs[place.job_name]) if place.job_name else ''}")
    holder.stop()
    over(arena).touch()
    until(lambda: set(arena.states().values()) <= TERMINAL, within_s=ENDED_WITHIN_S, what="all ends")
    return holder.killed


def read(arena: Arena, killed: dict[Place, str], stranger: subprocess.Popen[bytes]) -> Injected:
    deadline = time.monotonic() + GONE_WITHIN_S
    while (left := arena.leftovers()) and time.monotonic() < deadline:
        time.sleep(0.5)
    rows = arena.sql("SELECT id::text, name, state, attempts, error_code FROM jobs")
    return Injected(
        killed=killed,
        ends={row[1]: row for row in rows},
        words={row[1]: arena.words(row[0]) for row in rows},
        witness=read_witness(arena.witness),
        left=[described(each) for each in left],
        stranger_left=stranger.poll() is None,
    )


def described(left: str) -> str:
    """With what is in it, when it is a folder."""
    kind, _, path = left.partition(" ")
    return f"{left}: {sorted(each.name for each in Path(path).rglob('*'))}" if kind == "folder" else left


def place_of(saga: str, step: str, to_state: str) -> Place:
    name = None if saga == "CLEANUP" else name_of(saga, step, to_state)
    return Place(saga_type=saga, step=step, to_state=to_state, job_name=name)


def is_undone_provisioning(saga: str, step: str, to_state: str) -> bool:
    return (saga, to_state) == ("PROVISIONING", "COMPENSATED")


def pause_of(saga: str, step: str, to_state: str) -> Place:
    """Where a job waits until it is cancelled, so that what was made for it is undone."""
    name = name_of(saga, step, to_state)
    return Place(
        saga_type=saga, step="CreateInfrastructure", to_state="IN_PROGRESS", job_name=name, kill=False
    )


def begin(arena: Arena, saga: str, step: str, to_state: str) -> str:
    """Submit the job that comes to this place."""
    name = name_of(saga, step, to_state)
    if saga == "PROVISIONING" or (saga, to_state) == ("EXECUTION", "COMPLETED"):
        job = arena.job(name, "process", seconds=1, timeouts=PATIENT)
    elif saga == "TIMEOUT":
        job = arena.job(name, "process", seconds=600, pause=1, timeout_s=TIMEOUT_S, grace_s=0)
    else:  # it runs until it is cancelled, or its agent is killed, and then until all kills are done
        job = arena.job(name, "process", seconds=600, pause=1, until_there_is=over(arena), timeouts=PATIENT)
    return arena.submit(job, name)


def bring_about(arena: Arena, name: str, job_id: str) -> bool:
    """What the saga is there for happens to the job; False when it does not run yet."""
    saga, _, to_state = name.split("-")
    if saga == "PROVISIONING" or (saga, to_state) == ("EXECUTION", "COMPLETED"):
        return True
    target = arena.target(job_id=job_id)
    if target is None:
        return False
    if saga == "CANCELLATION":
        cancel(arena, job_id)
    else:
        number = signal.SIGSTOP if saga == "TIMEOUT" else signal.SIGKILL
        assert signal_if_same(target.pid, target.started, number)
    return True


def over(arena: Arena) -> Path:
    """The file that ends the jobs which still run when all kills are done."""
    return arena.shared / "over"


def undo(arena: Arena, holder: Holder, pause: Place, job_id: str) -> bool:
    """The job is cancelled while its worker is being made; False when that has not begun yet."""
    if not holder.is_held(pause):
        return False
    cancel(arena, job_id)
    holder.let_go(pause)
    return True


def cancel(arena: Arena, job_id: str) -> None:
    with arena.api() as client:
        client.cancel(job_id)


def leave_a_worker_behind(arena: Arena) -> subprocess.Popen[bytes]:
    """A process in the folder of a worker that has no row."""
    folder = Path(arena.shared, "data", "workers", arena.deployment, str(uuid4()))
    folder.mkdir(parents=True)
    return subprocess.Popen(["sleep", "3600"], cwd=folder, start_new_session=True)


def lose_the_row_of_a_worker(arena: Arena) -> str:
    """A worker that works is TERMINATED in the tables, as if an operator had done it by hand; its job's id."""
    job_id = arena.submit(
        arena.job("orphan", "process", seconds=600, pause=1, until_there_is=over(arena)), "orphan"
    )
    target = until(lambda: arena.target(job_id=job_id), within_s=ENDED_WITHIN_S, what="the orphan running")
    arena.sql(
        "UPDATE workers SET state = 'TERMINATED', terminated_at = clock_timestamp(), holds_place = false WHERE id = %s",
        target.worker_id,
    )
    arena.sql("UPDATE provider_configs SET places_taken = places_taken - 1 WHERE name = 'process'")
    return job_id


EXPECTED = {
    "PROVISIONING": ("SUCCEEDED", 1, None),
    "EXECUTION": ("SUCCEEDED", 1, None),
    "CANCELLATION": ("CANCELLED", 1, None),
    "TIMEOUT": ("TIMEOUT", 1, "ERR_1005"),
    "RECOVERY": ("SUCCEEDED", 2, None),
}


@pytest.mark.parametrize(("saga", "step", "to_state"), PLACES, ids=[name_of(*place) for place in PLACES])
def test_a_kill_in_the_middle_of_a_step_changes_no_end(
    injected: Injected, saga: str, step: str, to_state: str
) -> None:
    name = name_of(saga, step, to_state)
    place = place_of(saga, step, to_state)

    # given a process that was killed with -9 in the transaction that moved this step
    assert place in injected.killed, f"nobody came to {name}"

    # then the job has the end that it has without a kill, and each of its attempts ran once, one after the other
    if saga == "CLEANUP":
        return
    expected = EXPECTED[saga]
    if to_state == "COMPENSATED":
        expected = ("CANCELLED", 0, None) if saga == "PROVISIONING" else ("SUCCEEDED", 2, None)
    job_id, _, *end = injected.ends[name]
    assert tuple(end) == expected, injected.words[name]
    began = {attempt: len(each) for attempt, each in injected.witness.lives.get(job_id, {}).items()}
    assert began in (
        dict.fromkeys(range(1, expected[1] + 1), 1),
        dict.fromkeys(range(2, expected[1] + 1), 1),  # its first agent may be killed before it wrote anything
    )
    assert expected[0] != "SUCCEEDED" or expected[1] in began
    assert not [overlap for overlap in injected.witness.overlaps if job_id in overlap]


def test_after_all_kills_nothing_is_left_over(injected: Injected) -> None:
    assert injected.left == []
    assert not injected.stranger_left
    assert injected.witness.repeats == [] and injected.witness.overlaps == []
    assert injected.ends["orphan"][2:] == ("SUCCEEDED", 2, None)
