"""``hodei provider``, ``hodei worker`` and ``hodei saga``."""

from __future__ import annotations

from typing import Annotated

import typer

from hodei.cli import output
from hodei.cli.help import example
from hodei.cli.output import Format, FormatOption
from hodei.cli.target import Server, Token, connect
from hodei.errors import NotFound

provider = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Where jobs can run.")
worker = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The machines that run jobs.")
saga = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="The procedures behind jobs, step by step."
)

Limit = Annotated[int, typer.Option(min=1, help="At most so many.")]


@provider.command("list", epilog=example("hodei provider list"))
def provider_list(
    context: typer.Context, form: FormatOption = Format.TEXT, server: Server = None, token: Token = None
) -> None:
    """List the providers and how they are."""
    with connect(context, server, token) as platform:
        providers = platform.providers()
    if form is Format.JSON:
        output.put_json([item.document for item in providers])
        return
    output.put_table(
        ("ID", "NAME", "TYPE", "STATUS", "WORKERS", "PRIORITY", "REASON"),
        (
            (
                item.id,
                item.name,
                item.type,
                item.status.upper(),
                f"{item.workers or 0}/{item.max_workers or '-'}",
                item.priority,
                item.status_reason,
            )
            for item in providers
        ),
    )


@provider.command("health", epilog=example("hodei provider health", "hodei provider health docker"))
def provider_health(
    context: typer.Context,
    which: Annotated[
        str | None, typer.Argument(metavar="[PROVIDER]", help="Its name, type or id; else all.")
    ] = None,
    form: FormatOption = Format.TEXT,
    server: Server = None,
    token: Token = None,
) -> None:
    """Look now whether the providers work. Exits with 1 when the named one, or every one, does not."""
    with connect(context, server, token) as platform:
        chosen = [item for item in platform.providers() if which in (None, item.id, item.name, item.type)]
        if which and not chosen:
            raise NotFound(f"There is no provider {which!r}. See: hodei provider list")
        found = [platform.provider_health(item.id) for item in chosen]
    if form is Format.JSON:
        output.put_json([item.document for item in found])
    else:
        for item in found:
            verdict = "ok" if item.ok else "NOT OK"
            output.put(f"{output.visible(item.name)}: {verdict}. {output.visible(item.message)}")
            for name, sentence in item.checks.items():
                output.put(f"  - {output.visible(name)}: {output.visible(sentence)}")
    if not any(item.ok for item in found):
        raise typer.Exit(1)


@worker.command("list", epilog=example("hodei worker list"))
def worker_list(
    context: typer.Context,
    limit: Limit = 50,
    form: FormatOption = Format.TEXT,
    server: Server = None,
    token: Token = None,
) -> None:
    """List the workers."""
    with connect(context, server, token) as platform:
        workers = list(platform.workers(limit=limit))
    if form is Format.JSON:
        output.put_json([item.document for item in workers])
        return
    if not workers:
        output.say("No workers.")
        return
    output.put_table(
        ("ID", "STATE", "PROVIDER", "RESOURCE", "JOB", "HEARTBEAT", "CREATED"),
        (
            (
                item.id,
                item.state.upper(),
                item.provider_type or item.type,
                item.provider_resource_id,
                item.current_job_id or item.job_id,
                output.moment(item.last_heartbeat),
                output.moment(item.created_at),
            )
            for item in workers
        ),
    )


@saga.command("list", epilog=example("hodei saga list --job $JOB_ID", "hodei saga list --state FAILED"))
def saga_list(
    context: typer.Context,
    job: Annotated[str | None, typer.Option(metavar="ID", help="Only those of this job.")] = None,
    state: Annotated[str | None, typer.Option(metavar="STATE", help="Such as IN_PROGRESS or FAILED.")] = None,
    kind: Annotated[str | None, typer.Option("--type", metavar="TYPE", help="Such as PROVISIONING.")] = None,
    limit: Limit = 50,
    form: FormatOption = Format.TEXT,
    server: Server = None,
    token: Token = None,
) -> None:
    """List sagas."""
    filters = {"job_id": job, "state": state and state.upper(), "type": kind and kind.upper()}
    with connect(context, server, token) as platform:
        sagas = list(platform.sagas(limit=limit, **filters))
    if form is Format.JSON:
        output.put_json([item.document for item in sagas])
        return
    if not sagas:
        output.say("No sagas.")
        return
    output.put_table(
        ("ID", "TYPE", "STATE", "JOB", "STARTED", "TOOK"),
        (
            (
                item.id,
                item.saga_type,
                item.state.upper(),
                item.correlation_id,
                output.moment(item.started_at),
                output.lasted(item.started_at, item.completed_at),
            )
            for item in sagas
        ),
    )


@saga.command("show", epilog=example("hodei saga show $SAGA_ID"))
def saga_show(
    context: typer.Context,
    saga_id: Annotated[str, typer.Argument(metavar="ID", help="The saga's id.", show_default=False)],
    form: FormatOption = Format.TEXT,
    server: Server = None,
    token: Token = None,
) -> None:
    """Show a saga: its steps, and what happened in it."""
    with connect(context, server, token) as platform:
        found = platform.saga(saga_id)
    if form is Format.JSON:
        output.put_json(found.document)
        return
    output.put_fields(
        (
            ("ID", found.id),
            ("Type", found.saga_type),
            ("State", found.state.upper()),
            ("Outcome", found.metadata.get("outcome")),
            ("Job", found.correlation_id),
            ("Started", output.moment(found.started_at)),
            ("Completed", output.moment(found.completed_at)),
            ("Error", found.error_message),
        )
    )
    output.put("")
    output.put_table(
        ("STEP", "STATE", "TRIES AGAIN", "TOOK", "ERROR"),
        (
            (
                f"{step.step_order} {step.step_name}",
                step.state.upper(),
                step.retry_count,
                output.lasted(step.started_at, step.completed_at),
                step.error_message,
            )
            for step in sorted(found.steps, key=lambda step: step.step_order)
        ),
    )
    if found.audit:
        output.put("")
        output.put_table(
            ("TIME", "EVENT", "STEP", "MESSAGE"),
            (
                (output.moment(item.occurred_at), item.event_type, item.step_name, item.message)
                for item in found.audit
            ),
        )
