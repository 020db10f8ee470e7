"""What the clock does: each function looks at the facts, mends what stopped, and answers how much that was."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import structlog

from hodei.domain.causes import Failure
from hodei.domain.job import JobSpec
from hodei.domain.states import JobState
from hodei.errors import HodeiError
from hodei.ports import Platform
from hodei.providers.contract import (
    ProviderError,
    ResourceState,
    ResourceView,
    Watching,
    as_provider_errors,
)
from hodei.sagas.registry import engine
from hodei.sagas.release import give_up_worker
from hodei.sagas.settle import settle_attempt
from hodei.sagas.silence import blamed_silence_s
from hodei.services import dispatch as dispatching
from hodei.services import providers, workers
from hodei.services.recoveries import recover
from hodei.storage.transaction import Row

log = structlog.get_logger(__name__)

BATCH = 100
OVER = (ResourceState.EXITED, ResourceState.GONE)
Views = dict[UUID, ResourceView]
CONTROLLER_DEAD_AFTER_S = 12.0
"""Its presence is renewed every 5 s: after two that were missed its messages are taken for lost."""
DESTROYED_AT_ONCE = 4
DESTROYS_FOR_S = 10.0
"""How long a turn begins with one more worker: as long as the clock that turns holds the loop for sure. The last ones may take
as long as a provider may, and the turn is still far from ``step_limit``."""
TRIMS = ("outbox_trim", "keys_trim", "schedule_firings_trim", "loops_trim")
TRIMMED_AT_ONCE = 5000
TRIMS_FOR_S = 5.0
"""How long a turn goes on to another batch: 100 000 rows and more, far less than the clock's lease on the loop."""
ACTOR = "clock"


def relay_outbox(platform: Platform) -> int:
    """Hand over what was not handed over after its commit."""
    return platform.courier.relay_now(older_than_s=2.0)


def notice_lost_messages(platform: Platform) -> int:
    """When messages are lost for sure, whatever waited for one is looked at now, once.

    They are when the broker came back empty, and when a controller died with those that it had taken.
    """
    emptied = platform.courier.was_emptied()
    with platform.database.begin() as tx:
        died = tx.rows("controllers_forget_dead", silent_s=CONTROLLER_DEAD_AFTER_S)
        if not emptied and not died:
            return 0
        tx.after_commit(platform.courier.look)
        hurried = tx.execute("sagas_hurry_all")
        if hurried or died:
            dead = [row.owner for row in died]
            log.warning("messages.lost", broker_emptied=emptied, controllers_died=dead, sagas=hurried)
    if emptied:
        platform.courier.note_not_empty()
    return hurried


def nudge_sagas(platform: Platform) -> int:
    """Open sagas whose deadline passed, whose runner died, or whose message got lost: one message each, with back-off.

    None while the broker is away: nobody would hear it, and the back-off would go on long after the broker is back.
    """
    if platform.courier.ping() is not None:
        return 0
    with platform.database.begin() as tx:
        tx.execute("sagas_hurry_overlooked", limit=BATCH)
        due = tx.rows("sagas_to_nudge", limit=BATCH)
        for saga in due:
            tx.execute("saga_nudged", id=saga.id)
            engine(platform).publish_due(tx, saga.id)
    return len(due)


def dispatch(platform: Platform) -> int:
    """Give out what waits and has room: jobs whose message got lost, whose back-off is over, or whose provider came back."""
    return dispatching.look(platform)


def end_overdue_jobs(platform: Platform) -> int:
    """End the jobs that waited in the queue longer than they may."""
    with platform.database.begin() as tx:
        overdue = tx.rows("job_queue_overdue", limit=BATCH, lease_s=platform.settings.lease_over_s)
        for row in overdue:
            job = tx.row("job_lock", id=row.id)
            if job is None:
                continue
            spec = JobSpec.from_json(job.spec)
            failure = Failure(
                code="ERR_1014", message=f"The job waited in the queue for {spec.timeouts.queue_s:g} s."
            )
            settle_attempt(platform, tx, job, spec=spec, failure=failure, end=JobState.TIMEOUT, actor=ACTOR)
    return len(overdue)


def watch_workers(platform: Platform) -> int:
    """Ask the providers about workers that do not connect, that have gone silent, or that a provider's own watch shows over."""
    with platform.database.glance() as tx:
        where = [row.provider_id for row in tx.rows("providers_with_workers")]
    watched = _watched(platform, where)
    alive = [
        view.worker_id for views in watched.values() for view in views.values() if view.state not in OVER
    ]
    with platform.database.begin() as tx:
        since = tx.scalar("reachable_since")
        if since is None:
            return 0  # no door is open: no worker can be blamed for its silence
        suspects = tx.rows(
            "workers_to_watch",
            reachable_since=since,
            lost_after_s=platform.settings.worker_lost_after,
            watched=list(watched),
            alive=alive,
        )
    by_provider: dict[UUID, list[Row]] = defaultdict(list)
    for worker in suspects:
        if worker.provider_id is not None:
            by_provider[worker.provider_id].append(worker)
    return sum(
        _watch(platform, provider_id, found, watched.get(provider_id))
        for provider_id, found in by_provider.items()
    )


def _watched(platform: Platform, where: list[UUID]) -> dict[UUID, Views]:
    """What is known without asking: the workers of each of these providers that watches them, while its watch is in step."""
    known: dict[UUID, Views] = {}
    for provider_id in where:
        try:
            with as_provider_errors():
                provider = platform.providers.get(provider_id)
                if not isinstance(provider, Watching):
                    continue
                views = provider.watched(platform.database.deployment)
        except ProviderError:
            continue  # its configuration is wrong, which its health says
        if views is not None:
            known[provider_id] = {view.worker_id: view for view in views}
    return known


def _watch(platform: Platform, provider_id: UUID, suspects: list[Row], known: Views | None) -> int:
    """One question for all of a provider's, then one about each that is not well. On no answer only whose lease is over is lost:
    by its own clock its agent has ended its job then.
    """
    try:
        with as_provider_errors():
            provider = platform.providers.get(provider_id)
            if known is None:
                with platform.provider_call(provider, "list"):
                    listed = provider.list_workers(platform.database.deployment)
                known = {view.worker_id: view for view in listed}
    except ProviderError as error:
        log.warning("workers.not_inspected", provider_id=str(provider_id), reason=str(error))
        return sum(_unanswered(platform, worker, error) for worker in suspects)
    done = 0
    for worker in suspects:
        view = known.get(worker.id)
        try:
            if view is None or view.state in OVER or view.failure is not None:
                with as_provider_errors(), platform.provider_call(provider, "inspect"):
                    view = provider.inspect(worker.id)
        except ProviderError as error:
            log.warning("worker.not_inspected", worker_id=str(worker.id), reason=str(error))
            done += _unanswered(platform, worker, error)
            continue
        if worker.state in ("CREATING", "CONNECTING"):
            ended = view.state in OVER or view.failure is not None
            done += _never_connects(platform, worker, view) if ended else _note(platform, worker, view)
        elif _is_lost(platform, view, worker.silent_s):
            done += _lost(platform, worker, view)
    return done


def _is_lost(platform: Platform, view: ResourceView, silent_s: float) -> bool:
    """Its host may not answer the provider and still answer us: a worker that we hear is not lost."""
    if view.state is ResourceState.LOST and silent_s >= platform.settings.worker_lost_after:
        return True
    return view.state in OVER or silent_s >= platform.settings.worker_give_up_after


def _note(platform: Platform, worker: Row, view: ResourceView) -> int:
    """A worker that does not run yet is none that does not connect: what it waits for is noted, and when it runs."""
    if worker.provisioning_saga_id is None or not (worker.noted or view.state is ResourceState.STARTING):
        return 0
    seen = {"state": view.state.value}
    if view.waiting is not None:
        seen |= {"code": view.waiting.code, "message": view.waiting.message}
    with platform.database.begin() as tx:
        if worker.reserved_for is not None and (worker.awaited or view.waiting is not None):
            tx.execute(  # the job before its worker, as everybody locks them
                "job_note_awaited",
                id=worker.reserved_for,
                worker_id=worker.id,
                error_code=seen.get("code"),
                error_message=seen.get("message"),
            )
        if tx.execute("worker_note_infrastructure", id=worker.id, seen=seen):
            engine(platform).wake(tx, "PROVISIONING", worker.provisioning_saga_id, "PublishProvisionedEvent")
    return 0


def _never_connects(platform: Platform, worker: Row, view: ResourceView) -> int:
    failure = view.failure or Failure(
        code="ERR_3007", message=f"The worker ended before it connected (exit code {view.exit_code})."
    )
    with platform.database.begin() as tx:
        if worker.provisioning_saga_id is None:
            return 0
        changed = tx.execute(
            "worker_set_provider_failure",
            id=worker.id,
            failure={"code": failure.code, "message": failure.message},
        )
        if changed:
            engine(platform).wake(tx, "PROVISIONING", worker.provisioning_saga_id, "PublishProvisionedEvent")
    return changed


def _unanswered(platform: Platform, worker: Row, error: ProviderError) -> int:
    """Its provider does not answer about it."""
    if worker.state in ("CREATING", "CONNECTING") or worker.silent_s <= platform.settings.lease_over_s:
        return 0
    message = f"The worker was lost: no sign of it for {worker.silent_s:.0f} s, and its provider does not answer ({error})."
    failure = Failure(code="ERR_2006", message=message)
    return _lost(
        platform, worker, ResourceView(worker_id=worker.id, state=ResourceState.LOST, failure=failure)
    )


def _lost(platform: Platform, worker: Row, view: ResourceView) -> int:
    """The worker is gone, or was silent for too long: its attempt is recovered; one that has none is ended here, unless it is
    back."""
    failure = view.failure or Failure(
        code="ERR_2006",
        message=f"The worker was lost: no sign of it for {worker.silent_s:.0f} s, and its provider shows it {view.state.value}.",
    )
    with platform.database.begin() as tx:
        live = tx.rows("executions_to_recover", worker_id=worker.id)
        if not live:
            held = tx.row("worker_lock", id=worker.id)
            if held is None or not _is_lost(platform, view, blamed_silence_s(tx, held)):
                return 0  # it was heard while its provider was asked
            give_up_worker(platform, tx, worker.id, reason=failure.message)
            return 1
        started = sum(recover(platform, tx, worker, row, failure) for row in live)
    if started:
        jobs = ", ".join(str(row.job_id) for row in live)
        log.warning("worker.lost", worker_id=str(worker.id), correlation_id=jobs, reason=failure.message)
    return started


def destroy_workers(platform: Platform) -> int:
    """Destroy the workers that are still TERMINATING: their message got lost, or their provider was away.

    A few at a time, so that a provider that is slow about one holds up few; what a turn does not reach comes in the next.
    """
    with platform.database.begin() as tx:
        due = [row.id for row in tx.rows("workers_to_destroy", limit=BATCH)]
    waiting = iter(due)
    until = time.monotonic() + DESTROYS_FOR_S
    done: list[bool] = []

    def destroy_some() -> None:
        while time.monotonic() < until and (worker_id := next(waiting, None)) is not None:
            done.append(_destroy(platform, worker_id))

    # No pool: a clock that is told to stop would wait for the threads of one.
    threads = [
        threading.Thread(target=destroy_some, name="destroy", daemon=True)
        for _ in range(min(DESTROYED_AT_ONCE, len(due)))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done)


def _destroy(platform: Platform, worker_id: UUID) -> bool:
    try:
        return workers.destroy(platform, worker_id)
    except HodeiError as error:
        log.warning("worker.not_destroyed", worker_id=str(worker_id), reason=error.message)
    except Exception:
        log.exception("worker.not_destroyed", worker_id=str(worker_id))
    return False


def check_providers(platform: Platform) -> int:
    """Look how every provider is; each in a thread, so that one that hangs holds up no other."""
    with platform.database.begin() as tx:
        rows = tx.rows("provider_list")
    with ThreadPoolExecutor(max_workers=max(1, len(rows)), thread_name_prefix="health") as pool:
        for row in rows:
            pool.submit(_check, platform, row)
    return 0


def _check(platform: Platform, row: Row) -> None:
    try:
        providers.check_and_record(platform, row)
    except HodeiError as error:
        log.warning("provider.not_checked", provider=row.name, reason=error.message)


def trim(platform: Platform) -> int:
    """Forget what nobody needs any more: published outbox rows, old keys and firings, loops of processes that are gone.

    Each kind is trimmed for itself, a batch at least. Raises what kept one of them once all had their turn.
    """
    until = time.monotonic() + TRIMS_FOR_S
    trimmed = 0
    failed: Exception | None = None
    for name in TRIMS:
        try:
            trimmed += _trim(platform, name, until)
        except Exception as error:
            log.warning("clock.not_trimmed", query=name, reason=str(error))
            failed = failed or error
    if failed is not None:
        raise failed
    return trimmed


def _trim(platform: Platform, name: str, until: float) -> int:
    """Batch after batch, each a transaction, until one was not full or the turn has taken long enough."""
    trimmed = 0
    while True:
        with platform.database.begin() as tx:
            batch = tx.execute(name, limit=TRIMMED_AT_ONCE)
        trimmed += batch
        if batch < TRIMMED_AT_ONCE or time.monotonic() >= until:
            return trimmed
