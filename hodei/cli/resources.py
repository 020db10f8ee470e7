"""``hodei provider``, ``hodei worker`` and ``hodei saga``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from hodei.cli import inputs, output
from hodei.cli.filters import Since, Until, Words, by_time_and_text
from hodei.cli.help import example
from hodei.cli.output import Format, FormatOption
from hodei.cli.target import Server, Token, connect
from hodei.errors import NotFound

if TYPE_CHECKING:
    from hodei.client.shapes import Provider, Worker

provider = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Where jobs can run.")
worker = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The machines that run jobs.")
saga = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="The procedures behind jobs, step by step."
)

SAGA_TYPES = ("PROVISIONING", "EXECUTION", "RECOVERY", "CANCELLATION", "TIMEOUT", "CLEANUP")
WORKER_STATES = ("CREATING", "CONNECTING", "READY", "BUSY", "DRAINING", "TERMINATING", "TERMINATED")
SAGA_STATES = ("PENDING", "IN_PROGRESS", "COMPENSATING", "COMPLETED", "FAILED", "CANCELLED")

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


@provider.command(
    "health",
    epilog=example(
        "hodei provider health", "hodei provider health docker", "hodei provider health kubernetes --probe"
    ),
)
def provider_health(
    context: typer.Context,
    which: Annotated[
        str | None, typer.Argument(metavar="[PROVIDER]", help="Its name, type or id; else all.")
    ] = None,
    probe: Annotated[
        bool,
        typer.Option("--probe", help="Kubernetes: have a pod try whether workers reach worker-manager."),
    ] = False,
    form: FormatOption = Format.TEXT,
    server: Server = None,
    token: Token = None,
) -> None:
    """Look now whether the providers work. Exits with 1 when one of those that were looked at does not."""
    with connect(context, server, token) as platform:
        chosen = [item for item in platform.providers() if which in (None, item.id, item.name, item.type)]
        if which and not chosen:
            raise NotFound(f"There is no provider {which!r}. See: hodei provider list")
        found = [
            platform.probe_provider(item.id)
            if probe and item.type == "kubernetes"
            else platform.provider_health(item.id)
            for item in chosen
        ]
    if form is Format.JSON:
        output.put_json([item.document for item in found])
    else:
        for item in found:
            verdict = "ok" if item.ok else "NOT OK"
            output.put(f"{output.visible(item.name)}: {verdict}. {output.visible(item.message)}")
            for name, sentence in item.checks.items():
                output.put(f"  - {output.visible(name)}: {output.visible(sentence)}")
    if not all(item.ok for item in found):
        raise typer.Exit(1)


@provider.command("enable", epilog=example("hodei provider enable docker"))
def provider_enable(
    context: typer.Context,
    which: Annotated[str, typer.Argument(metavar="PROVIDER", help="Its name or id.", show_default=False)],
    form: FormatOption = Format.TEXT,
    server: Server = None,
    token: Token = None,
) -> None:
    """Give a provider work again. It is looked at first; exits with 1 when it is not well."""
    with connect(context, server, token) as platform:
        found = platform.enable_provider(which)
    _put_provider(found, form)
    if found.status not in ("active", "degraded"):
        raise typer.Exit(1)


@provider.command(
    "disable",
    epilog=example(
        "hodei provider disable docker", 'hodei provider disable docker --maintenance --reason "new disks"'
    ),
)
def provider_disable(
    context: typer.Context,
    which: Annotated[str, typer.Argument(metavar="PROVIDER", help="Its name or id.", show_default=False)],
    maintenance: Annotated[
        bool, typer.Option("--maintenance", help="It is meant to come back: say MAINTENANCE, not DISABLED.")
    ] = False,
    reason: Annotated[
        str | None, typer.Option(help="Shown to whoever waits for it.", show_default=False)
    ] = None,
    form: FormatOption = Format.TEXT,
    server: Server = None,
    token: Token = None,
) -> None:
    """Give a provider no new work. What runs there goes on."""
    change = {"status": "maintenance" if maintenance else "disabled"} | (
        {} if reason is None else {"status_reason": reason}
    )
    with connect(context, server, token) as platform:
        found = (
            platform.change_provider(which, change)
            if maintenance or reason is not None
            else platform.disable_provider(which)
        )
    _put_provider(found, form)


def _put_provider(found: Provider, form: Format) -> None:
    if form is Format.JSON:
        output.put_json(found.document)
        return
    reason = f" {output.visible(found.status_reason)}" if found.status_reason else ""
    output.put(f"{output.visible(found.name)}: {found.status.upper()}.{reason}")


@worker.command("list", epilog=example("hodei worker list", "hodei worker list --state READY --type rust"))
def worker_list(
    context: typer.Context,
    state: Annotated[
        list[str] | None, typer.Option(metavar="STATE", help="Such as READY or BUSY.", show_default=False)
    ] = None,
    kind: Annotated[
        str | None, typer.Option("--type", metavar="TYPE", help="Such as rust.", show_default=False)
    ] = None,
    provider: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of this provider or type.", show_default=False)
    ] = None,
    since: Since = None,
    until: Until = None,
    text: Words = None,
    limit: Limit = 50,
    form: FormatOption = Format.TEXT,
    server: Server = None,
    token: Token = None,
) -> None:
    """List the workers."""
    narrowed = {
        "state": [inputs.one_of(item, WORKER_STATES, "--state") or "" for item in state or ()] or None,
        "type": kind,
        "provider": provider,
        **by_time_and_text(since, until, text),
    }
    with connect(context, server, token) as platform:
        workers = list(platform.workers(limit=limit, **narrowed))
    if form is Format.JSON:
        output.put_json([item.document for item in workers])
        return
    if not workers:
        output.say("No workers like that." if any(narrowed.values()) else "No workers.")
        return
    output.put_table(
        ("ID", "STATE", "PROVIDER", "TYPE", "RESOURCE", "JOB", "HEARTBEAT", "CREATED"),
        (
            (
                item.id,
                item.state.upper(),
                item.provider_type,
                item.type,
                item.provider_resource_id,
                item.current_job_id or item.job_id,
                output.moment(item.last_heartbeat),
                output.moment(item.created_at),
            )
            for item in workers
        ),
    )


@worker.command(
    "register",
    epilog=example("hodei worker register --type rust", "hodei worker register --type rust --format json"),
)
def worker_register(
    context: typer.Context,
    kind: Annotated[
        str, typer.Option("--type", metavar="TYPE", help="What jobs ask for it by.", show_default=False)
    ],
    form: FormatOption = Format.TEXT,
    server: Server = None,
    token: Token = None,
) -> None:
    """Register a self-hosted worker: a machine of yours, on which you start the agent.

    The token is shown this once. Jobs get there with --require type=TYPE.
    """
    with connect(context, server, token) as platform:
        found = platform.register_worker(kind)
        agents = platform.address("worker_manager")
    if form is Format.JSON:
        output.put_json(found.document)
        return
    output.put(
        f"{found.id}: registered. Start its agent on the machine, before {output.moment(found.token_expires_at)}:"
    )
    output.put(f"hodei-agent --server {agents} --token {found.token}")


WorkerId = Annotated[str, typer.Argument(metavar="ID", help="The worker's id.", show_default=False)]


@worker.command("drain", epilog=example("hodei worker drain $WORKER_ID"))
def worker_drain(
    context: typer.Context,
    worker_id: WorkerId,
    form: FormatOption = Format.TEXT,
    server: Server = None,
    token: Token = None,
) -> None:
    """Let a worker finish its job, give it no other, and end it then."""
    with connect(context, server, token) as platform:
        found = platform.drain_worker(worker_id)
    _put_worker(found, form)


@worker.command("stop", epilog=example("hodei worker stop $WORKER_ID"))
def worker_stop(
    context: typer.Context,
    worker_id: WorkerId,
    form: FormatOption = Format.TEXT,
    server: Server = None,
    token: Token = None,
) -> None:
    """End a worker now. What runs on it is stopped, and is tried again elsewhere."""
    with connect(context, server, token) as platform:
        found = platform.stop_worker(worker_id)
    _put_worker(found, form)


def _put_worker(found: Worker, form: Format) -> None:
    if form is Format.JSON:
        output.put_json(found.document)
        return
    output.put(f"{found.id}: {found.state.upper()}.")


@saga.command("list", epilog=example("hodei saga list --job $JOB_ID", "hodei saga list --state FAILED"))
def saga_list(
    context: typer.Context,
    job: Annotated[str | None, typer.Option(metavar="ID", help="Only those of this job.")] = None,
    state: Annotated[str | None, typer.Option(metavar="STATE", help="Such as IN_PROGRESS or FAILED.")] = None,
    kind: Annotated[str | None, typer.Option("--type", metavar="TYPE", help="Such as PROVISIONING.")] = None,
    since: Since = None,
    until: Until = None,
    text: Words = None,
    limit: Limit = 50,
    form: FormatOption = Format.TEXT,
    server: Server = None,
    token: Token = None,
) -> None:
    """List sagas."""
    filters = {
        "job_id": job,
        "state": inputs.one_of(state, SAGA_STATES, "--state"),
        "type": inputs.one_of(kind, SAGA_TYPES, "--type"),
        **by_time_and_text(since, until, text),
    }
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
