"""Changing and deleting pipelines."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from hodei.domain.pipeline import PipelineState, secrets_owner
from hodei.domain.pipeline_definition import Definition, JobTemplate, Param
from hodei.errors import Conflict, InvalidInput
from hodei.ports import Platform
from hodei.services.pipelines.create import Secrets, check_definition, keep_secrets, name_is_taken, stored
from hodei.services.pipelines.read import no_pipeline, pipeline_view
from hodei.storage.transaction import Row, Transaction

KEEP: Any = object()
"""This part stays as it is."""


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What is to be different. ``jobs`` takes the place of all jobs there were, and of their secrets."""

    name: str = KEEP
    description: str = KEEP
    state: PipelineState = KEEP
    params: dict[str, Param] = KEEP
    max_parallel: int | None = KEEP
    jobs: tuple[JobTemplate, ...] = KEEP
    secrets: Secrets = field(default_factory=dict, repr=False)

    def named(self) -> list[str]:
        """The parts that are named."""
        names = ("name", "description", "state", "params", "max_parallel", "jobs")
        return ["status" if name == "state" else name for name in names if getattr(self, name) is not KEEP]


def change_pipeline(platform: Platform, pipeline_id: UUID, changes: Changes, *, actor: str) -> dict[str, Any]:
    """Change what is named. Runs keep the jobs that they began with, and take their secrets as they are now.

    Raises NotFound, InvalidInput with the field at fault, and Conflict for a name that another pipeline has.
    """
    with platform.database.begin() as tx:
        row = _locked(tx, pipeline_id)
        definition = _definition(row, changes)
        if definition is not None:
            check_definition(tx, definition)
        name = row.name if changes.name is KEEP else changes.name
        if name != row.name and tx.scalar("pipeline_of_name", name=name) is not None:
            raise name_is_taken(tx, name)
        if changes.jobs is not KEEP:
            _forget_secrets(tx, row)
            keep_secrets(platform, tx, pipeline_id, changes.secrets)
        changed = tx.row(
            "pipeline_change",
            id=pipeline_id,
            name=name,
            description=row.description if changes.description is KEEP else changes.description,
            state=row.state if changes.state is KEEP else changes.state.value,
            definition=stored(definition),
        )
        assert changed is not None
        payload = {"changed": changes.named(), "version": changed.version}
        tx.record("pipeline", pipeline_id, "PipelineChanged", payload, actor=actor)
        tx.after_commit(platform.courier.relay)
        return pipeline_view(changed)


def delete_pipeline(platform: Platform, pipeline_id: UUID, *, actor: str) -> None:
    """Forget the pipeline, its runs and its secrets; the jobs that they made stay.

    Raises NotFound, and Conflict while a run is going.
    """
    with platform.database.begin() as tx:
        row = _locked(tx, pipeline_id)
        tx.record("pipeline", pipeline_id, "PipelineDeleted", {"name": row.name}, actor=actor)
        _forget_secrets(tx, row)
        if not tx.execute("pipeline_delete_if_idle", id=pipeline_id):
            raise Conflict(
                "A run of the pipeline is going: wait for its end, or cancel it (hodei pipeline cancel RUN)."
            )
        tx.after_commit(platform.courier.relay)


def _locked(tx: Transaction, pipeline_id: UUID) -> Row:
    row = tx.row("pipeline_lock", id=pipeline_id)
    if row is None:
        raise no_pipeline(pipeline_id)
    return row


def _definition(row: Row, changes: Changes) -> Definition | None:
    before = None if row.definition is None else Definition.from_json(row.definition)
    if changes.jobs is not KEEP:
        before = Definition(jobs=changes.jobs) if before is None else replace(before, jobs=changes.jobs)
    parts = {"params": changes.params, "max_parallel": changes.max_parallel}
    given: dict[str, Any] = {name: value for name, value in parts.items() if value is not KEEP}
    if before is None and given:
        raise InvalidInput("The pipeline has no jobs: give it jobs first.", field=next(iter(given)))
    return before if before is None else replace(before, **given)


def _forget_secrets(tx: Transaction, row: Row) -> None:
    if row.definition is not None:
        owners = [secrets_owner(row.id, job["key"]) for job in row.definition["jobs"]]
        tx.execute("secrets_forget_many", owner_ids=owners)
