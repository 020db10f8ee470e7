"""The Celery tasks: thin, one for each step and undoing of every saga, and three more. Each only says "look at this"."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import structlog
from celery import Celery, Task

from hodei.ports import Platform
from hodei.queue import names
from hodei.sagas.engine import Engine
from hodei.sagas.registry import SAGA_TYPES, engine
from hodei.sagas.steps import SagaType, Step
from hodei.services import dispatch, pulls, workers

log = structlog.get_logger(__name__)


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
    @app.task(name=names.step_task(saga_type.name, step.name), bind=True)
    def run(self: Task, saga_id: str) -> None:
        with structlog.contextvars.bound_contextvars(saga_id=saga_id, step=step.name):
            if not sagas.run_step(UUID(saga_id), step.name):
                _end_chain(self)


def _register_undo(app: Celery, sagas: Engine, saga_type: SagaType, step: Step) -> None:
    @app.task(name=names.undo_task(saga_type.name, step.name), bind=True)
    def undo(self: Task, saga_id: str) -> None:
        with structlog.contextvars.bound_contextvars(saga_id=saga_id, step=step.name):
            if not sagas.undo_step(UUID(saga_id), step.name):
                _end_chain(self)


def _end_chain(task: Task) -> None:
    """The stretch ends here: it waits, or its saga has taken another turn."""
    request: Any = task.request
    request.chain = None


def _register_others(app: Celery, platform: Platform) -> None:
    @app.task(name=names.LOOK)
    def look() -> None:
        dispatch.look(platform)

    @app.task(name=names.DESTROY)
    def destroy(worker_id: str) -> None:
        with structlog.contextvars.bound_contextvars(worker_id=worker_id):
            workers.destroy(platform, UUID(worker_id))

    @app.task(name=names.PULL)
    def pull(provider_id: str, image: str) -> None:
        pulls.start_pull(platform, UUID(provider_id), image)
