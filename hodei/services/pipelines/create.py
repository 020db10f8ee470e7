"""Making pipelines."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from hodei.domain.ids import new_id
from hodei.domain.pipeline import secrets_owner
from hodei.domain.pipeline_definition import OWN_LABELS, Definition
from hodei.domain.pipeline_graph import BadGraph
from hodei.errors import Conflict, InvalidInput
from hodei.ports import Platform
from hodei.services.idempotency import RequestKey, once
from hodei.services.pipelines.read import pipeline_view
from hodei.services.submit import check_provider
from hodei.storage.transaction import Transaction

MAX_LABELS = 64

Secrets = dict[str, dict[str, str]]
"""Job key → name → value; they are in no definition."""


@dataclass(frozen=True, kw_only=True)
class NewPipeline:
    """A pipeline to be made. ``definition`` None: the plain form, to which jobs are attached by its id."""

    name: str
    description: str = ""
    definition: Definition | None = None
    secrets: Secrets = field(default_factory=dict, repr=False)


def create_pipeline(
    platform: Platform, new: NewPipeline, *, actor: str, key: RequestKey | None = None
) -> dict[str, Any]:
    """Store a pipeline; nothing runs yet.

    With ``key``, a request that is sent again gets the first answer. Raises InvalidInput with the field at fault, and
    Conflict for a name that another pipeline has.
    """
    with platform.database.begin() as tx:
        return once(tx, key, lambda: _create(platform, tx, new, actor))


def _create(platform: Platform, tx: Transaction, new: NewPipeline, actor: str) -> dict[str, Any]:
    pipeline_id = new_id()
    if new.definition is not None:
        check_definition(tx, new.definition)
    row = tx.row(
        "pipeline_insert",
        id=pipeline_id,
        name=new.name,
        description=new.description,
        definition=stored(new.definition),
    )
    if row is None:
        raise name_is_taken(tx, new.name)
    keep_secrets(platform, tx, pipeline_id, new.secrets)
    jobs = 0 if new.definition is None else len(new.definition.jobs)
    tx.record("pipeline", pipeline_id, "PipelineCreated", {"name": new.name, "jobs": jobs}, actor=actor)
    tx.after_commit(platform.courier.relay)
    return pipeline_view(row)


def check_definition(tx: Transaction, definition: Definition) -> None:
    """Raises InvalidInput for a definition that could not be run, with the field at fault."""
    try:
        definition.check()
    except BadGraph as error:
        raise InvalidInput(str(error), field=error.field) from None
    providers = {row.name: row for row in tx.rows("provider_list")}
    for place, job in enumerate(definition.jobs):
        if len(job.labels) > MAX_LABELS - len(OWN_LABELS):
            raise InvalidInput(
                f"{job.key} has more than {MAX_LABELS - len(OWN_LABELS)} labels: a run adds {len(OWN_LABELS)}.",
                field=f"jobs.{place}.labels",
            )
        for label in OWN_LABELS:
            if label in job.labels:
                raise InvalidInput(
                    f"The label {label} is set by the run.", field=f"jobs.{place}.labels.{label}"
                )
        try:
            check_provider(job.spec, providers)
        except InvalidInput as error:
            raise InvalidInput(error.message, field=f"jobs.{place}.{error.field}") from None


def keep_secrets(platform: Platform, tx: Transaction, pipeline_id: UUID, secrets: Secrets) -> None:
    """Store what these jobs' secrets are, encrypted; the pipeline has none of these yet."""
    for job_key, values in secrets.items():
        for name, value in values.items():
            tx.execute(
                "secret_insert",
                owner_id=secrets_owner(pipeline_id, job_key),
                name=name,
                ciphertext=platform.vault.encrypt(value),
            )


def stored(definition: Definition | None) -> str | None:
    """The document of ``pipelines.definition``."""
    return None if definition is None else json.dumps(definition.to_json())


def name_is_taken(tx: Transaction, name: str) -> Conflict:
    """The error for a second pipeline of a name."""
    found = tx.scalar("pipeline_of_name", name=name)
    return Conflict(
        f"There is a pipeline {name!r} already ({found}): change that, or choose another name.", field="name"
    )
