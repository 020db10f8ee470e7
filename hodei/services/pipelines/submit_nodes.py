"""Making the jobs of the nodes that may start: a bounded number in one transaction, in a few statements."""

from __future__ import annotations

from uuid import UUID

from hodei.domain.expressions import BadExpression, Outcome, Scope
from hodei.domain.pipeline import NodeState, node_job_id, secrets_owner
from hodei.domain.pipeline_definition import JobTemplate, render
from hodei.errors import InvalidInput
from hodei.ports import Platform
from hodei.services.pipelines.tell import ACTOR, tell_nodes
from hodei.services.submit import NewJob, check_provider, store_jobs
from hodei.storage.transaction import Row, Transaction

BATCH = 250


def submit_ready(platform: Platform, tx: Transaction, run: Row) -> int:
    """Store the jobs of the next READY nodes; a node whose job cannot be made has failed. How many nodes that were.

    The caller holds the run's row. A job's id follows from run, node and try, so none is ever made twice.
    """
    rows = tx.rows("nodes_to_submit", run_id=run.id, limit=BATCH, max_parallel=run.max_parallel)
    if not rows:
        return 0
    templates = {row.job_key: JobTemplate.from_json(row.template) for row in rows}
    maker = _Maker(tx, run, templates)
    made: list[tuple[Row, NewJob]] = []
    refused: list[tuple[Row, str]] = []
    for row in rows:
        try:
            made.append((row, maker.job(row, templates[row.job_key])))
        except (BadExpression, InvalidInput) as error:
            refused.append((row, str(error)))
    if made:
        _store(platform, tx, run, made)
    if refused:
        numbers = [row.number for row, _ in refused]
        reasons = [reason for _, reason in refused]
        tx.execute("nodes_set_refused", run_id=run.id, numbers=numbers, reasons=reasons)
        tx.execute("nodes_tell", run_id=run.id, numbers=numbers)
        tell_nodes(tx, run.id, "PipelineNodesRefused", [(row.key, reason) for row, reason in refused])
    return len(rows)


class _Maker:
    """Makes jobs of a run's templates; what they need to know is read once for all of them."""

    def __init__(self, tx: Transaction, run: Row, templates: dict[str, JobTemplate]) -> None:
        self._run = run
        self._providers = {row.name: row for row in tx.rows("provider_list")}
        self._outcomes: dict[str, tuple[Outcome, ...]] = {}
        read = {need for template in templates.values() for need in template.reads()}
        for row in tx.rows("nodes_outcomes", run_id=run.id, job_keys=list(read)) if read else ():
            outcome = Outcome(key=row.key, state=NodeState(row.state), outputs=row.outputs)
            self._outcomes[row.job_key] = (*self._outcomes.get(row.job_key, ()), outcome)
        owners = {
            secrets_owner(run.pipeline_id, key): key
            for key, job in templates.items()
            if job.spec.secret_names
        }
        self._secrets: set[tuple[str, str]] = {
            (owners[row.owner_id], row.name)
            for row in (tx.rows("secrets_names_of_many", owner_ids=list(owners)) if owners else ())
        }
        self._pipeline_name = tx.scalar("pipeline_name", id=run.pipeline_id)

    def job(self, row: Row, template: JobTemplate) -> NewJob:
        """The node's job. Raises BadExpression and InvalidInput."""
        run = self._run
        for name in template.spec.secret_names:
            if (template.key, name) not in self._secrets:
                raise InvalidInput(f"The pipeline has no secret {name} of the job {template.key} any more.")
        scope = Scope(
            params=run.params,
            matrix=row.matrix,
            run={"id": str(run.id), "number": str(run.number)},
            needs={need: self._outcomes.get(need, ()) for need in template.needs},
        )
        rendered = render(template, row.key, scope)
        check_provider(rendered.spec, self._providers)
        own = {
            "hodei.io/pipeline": self._pipeline_name,
            "hodei.io/run": str(run.id),
            "hodei.io/node": row.key,
        }
        return NewJob(
            id=node_job_id(run.id, row.key, row.nth_try),
            name=rendered.name,
            spec=rendered.spec,
            priority=template.priority,
            labels=rendered.labels | own,
            pipeline_id=run.pipeline_id,
            pipeline_run_id=run.id,
            pipeline_node=row.key,
        )


def _store(platform: Platform, tx: Transaction, run: Row, made: list[tuple[Row, NewJob]]) -> None:
    store_jobs(platform, tx, [job for _, job in made], actor=ACTOR, request_id=None)
    ids: list[UUID] = [job.id for _, job in made if job.id is not None]
    secret = [(row, job) for row, job in made if job.spec.secret_names]
    if secret:
        tx.execute(
            "secrets_copy_to_many",
            from_ids=[secrets_owner(run.pipeline_id, row.job_key) for row, _ in secret],
            to_ids=[job.id for _, job in secret],
        )
    tx.execute("nodes_set_submitted", run_id=run.id, numbers=[row.number for row, _ in made], job_ids=ids)
