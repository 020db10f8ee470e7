"""The Celery tasks: thin, one for each step and undoing of every saga, and four more. Each only says "look at this"."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from uuid import UUID

import structlog
from celery import Celery, Task

from hodei.errors import DatabaseUnavailable
from hodei.ports import Platform
from hodei.providers.contract import ProviderError
from hodei.queue import names
from hodei.sagas.engine import Engine
from hodei.sagas.registry import SAGA_TYPES, engine
from hodei.sagas.steps import SagaType, Step
from hodei.services import dispatch, pulls, traces, workers
from hodei.services.pipelines.advance import advance_run

log = structlog.get_logger(__name__)

PAUSES_S = (0.1, 0.5, 2.0)


def register(app: Celery, platform: Platform) -> None:
    """Add all tasks to the app."""
    sagas = engine(platform)
    for saga_type in SAGA_TYPES:
        for step in saga_type.steps:
            _register_step(app, sagas, saga_type, step)
            if step.undoable:
                _register_undo(app, sagas, saga_type, step)
    _register_others(app, platform)


def _register_step(app: Celery, sagas: Engine, saga_type: SagaType, step: Step) -> None:
    task = names.step_task(saga_type.name, step.name)

    @app.task(name=task, bind=True)
    def run(self: Task, saga_id: str) -> None:
        with _about_step(sagas.platform, saga_id, step.name, task):
            if not _without_traceback(partial(sagas.run_step, UUID(saga_id), step.name)):
                _end_chain(self)
            elif not self.request.chain:
                sagas.go_on(saga_type.name, UUID(saga_id), step.name)


def _register_undo(app: Celery, sagas: Engine, saga_type: SagaType, step: Step) -> None:
    task = names.undo_task(saga_type.name, step.name)

    @app.task(name=task, bind=True)
    def undo(self: Task, saga_id: str) -> None:
        with _about_step(sagas.platform, saga_id, step.name, task):
            if not _without_traceback(partial(sagas.undo_step, UUID(saga_id), step.name)):
                _end_chain(self)


@contextmanager
def _about_step(platform: Platform, saga_id: str, step: str, task: str) -> Iterator[None]:
    """What is said and told in the block is about this step."""
    with structlog.contextvars.bound_contextvars(saga_id=saga_id, step=step):
        with traces.step_task(platform, UUID(saga_id), step, task):
            yield


def _without_traceback(task: Callable[[], Any]) -> Any:
    """What the task answers; None when database or provider were away, which the log says in one line. The clock looks again."""
    try:
        return _patiently(task)
    except DatabaseUnavailable as error:
        log.warning("task: the database was away", reason=error.message)
    except ProviderError as error:  # of an undoing, which is asked for again
        log.warning("task: the provider could not", code=error.failure.code, reason=error.failure.message)
    return None


def _patiently(task: Callable[[], Any]) -> Any:
    """Look again a few times while the database is away: the clock would come back to the saga in a minute only.

    Long enough for the connections that a restart of Postgres has left dead in the pool, and for most restarts.
    """
    for pause_s in PAUSES_S:
        try:
            return task()
        except DatabaseUnavailable:
            time.sleep(pause_s)
    return task()


def _end_chain(task: Task) -> None:
    """The stretch ends here: it waits, or its saga has taken another turn."""
    request: Any = task.request
    request.chain = None


def _register_others(app: Celery, platform: Platform) -> None:
    @app.task(name=names.LOOK)
    def look() -> None:
        _without_traceback(partial(dispatch.look, platform))

    @app.task(name=names.DESTROY)
    def destroy(worker_id: str) -> None:
        with (
            structlog.contextvars.bound_contextvars(worker_id=worker_id),
            traces.worker_task(platform, UUID(worker_id), names.DESTROY),
        ):
            _without_traceback(partial(workers.destroy, platform, UUID(worker_id)))

    @app.task(name=names.PULL)
    def pull(provider_id: str, image: str) -> None:
        _without_traceback(partial(pulls.start_pull, platform, UUID(provider_id), image))

    @app.task(name=names.ADVANCE)
    def advance(run_id: str) -> None:
        with structlog.contextvars.bound_contextvars(pipeline_run_id=run_id):
            _without_traceback(partial(advance_run, platform, UUID(run_id)))
