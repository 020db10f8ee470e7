"""What the clock does: each function looks at the facts, mends what stopped, and answers how much that was."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import structlog

from hodei.domain.causes import Failure
from hodei.domain.job import JobSpec
from hodei.domain.states import JobState
from hodei.errors import HodeiError
from hodei.ports import Platform
from hodei.providers.contract import Provider, ProviderError, ResourceState, ResourceView
from hodei.sagas.registry import engine
from hodei.sagas.settle import settle_attempt
from hodei.services import dispatch as dispatching
from hodei.services import providers, workers
from hodei.storage.transaction import Row

log = structlog.get_logger(__name__)

BATCH = 100
CONTROLLER_DEAD_AFTER_S = 12.0
"""Its presence is renewed every 5 s: after two that were missed its messages are taken for lost."""
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
    """Open sagas whose deadline passed, whose runner died, or whose message got lost: one message each, with back-off."""
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
        overdue = tx.rows("job_queue_overdue", limit=BATCH)
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
    """Ask the providers about workers that do not connect, and about those that have gone silent."""
    settings = platform.settings
    lost = _lose_attempts_without_worker(platform)
    with platform.database.begin() as tx:
        since = tx.scalar("reachable_since")
        if since is None:
            return lost  # no door is open: no worker can be blamed for its silence
        suspects = tx.rows(
            "workers_to_watch", reachable_since=since, lost_after_s=settings.worker_lost_after, limit=BATCH
        )
    return lost + sum(_watch(platform, worker) for worker in suspects)


def _lose_attempts_without_worker(platform: Platform) -> int:
    """An attempt whose worker was ended from elsewhere, without a result: nobody will ever report it."""
    with platform.database.begin() as tx:
        orphaned = tx.rows("executions_without_worker", limit=BATCH)
        for row in orphaned:
            tx.execute(
                "execution_set_lost",
                id=row.id,
                error_code="ERR_2006",
                error_message=f"The worker was ended before it reported: {row.termination_reason or 'no reason given'}",
            )
            engine(platform).wake(tx, "EXECUTION", row.saga_id, "ExecuteJob")
    return len(orphaned)


def _watch(platform: Platform, worker: Row) -> int:
    try:
        provider = platform.providers.get(worker.provider_id)
        view = provider.inspect(worker.id)
    except ProviderError as error:
        log.warning("worker.not_inspected", worker_id=str(worker.id), reason=str(error))
        return 0
    over = view.state in (ResourceState.EXITED, ResourceState.GONE)
    if worker.state in ("CREATING", "CONNECTING"):
        return _never_connects(platform, worker, view) if over else 0
    if not over and worker.silent_s < platform.settings.worker_give_up_after:
        return 0
    return _lost(platform, worker, provider, view)


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


def _lost(platform: Platform, worker: Row, provider: Provider, view: ResourceView) -> int:
    """The worker is gone, or was silent for too long: what is left of it is ended first, then its attempt."""
    failure = view.failure or Failure(
        code="ERR_2006",
        message=f"The worker was lost: no sign of it for {worker.silent_s:.0f} s, and its provider shows it {view.state.value}.",
    )
    try:
        provider.stop(worker.id)
    except ProviderError as error:
        log.warning("worker.not_destroyed", worker_id=str(worker.id), reason=str(error))
        return 0
    with platform.database.begin() as tx:
        for execution in tx.rows("execution_live_of_worker", worker_id=worker.id):
            if tx.execute(
                "execution_set_lost", id=execution.id, error_code=failure.code, error_message=failure.message
            ):
                engine(platform).wake(tx, "EXECUTION", execution.saga_id, "ExecuteJob")
        if tx.scalar("worker_set_terminating", id=worker.id, destroy_in_s=0.0, reason=failure.message):
            tx.after_commit(lambda: platform.courier.destroy(worker.id))
    log.warning("worker.lost", worker_id=str(worker.id), reason=failure.message)
    return 1


def destroy_workers(platform: Platform) -> int:
    """Destroy the workers that are still TERMINATING: their message got lost, or their provider was away."""
    with platform.database.begin() as tx:
        due = tx.rows("workers_to_destroy", limit=BATCH)
    return sum(workers.destroy(platform, worker.id) for worker in due)


def remove_orphans(platform: Platform) -> int:
    """Remove what the providers show under this deployment's label and no live row stands for."""
    removed = 0
    for provider_id in platform.providers.ids():
        try:
            provider = platform.providers.get(provider_id)
            seen = {view.worker_id for view in provider.list_workers(platform.database.deployment)}
        except ProviderError as error:
            log.debug("orphans.not_listed", provider_id=str(provider_id), reason=str(error))
            continue
        with platform.database.begin() as tx:
            known = {row.id: row.state for row in tx.rows("workers_known", ids=list(seen))}
        for worker_id in seen:
            if known.get(worker_id, "TERMINATED") != "TERMINATED":
                continue
            try:
                provider.stop(worker_id)
                removed += 1
                log.warning("orphan.removed", worker_id=str(worker_id))
            except ProviderError as error:
                log.warning("orphan.not_removed", worker_id=str(worker_id), reason=str(error))
    return removed


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
    """Forget what nobody needs any more: published outbox rows, old idempotency keys, loops of processes that are gone."""
    with platform.database.begin() as tx:
        return tx.execute("outbox_trim") + tx.execute("loops_trim") + tx.execute("keys_trim")
