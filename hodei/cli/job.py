"""``hodei job``: what became of jobs."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from hodei.cli import inputs, job_logs, job_report, job_run, output
from hodei.cli.filters import Since, Until, Words, by_time_and_text
from hodei.cli.help import example
from hodei.cli.output import Format, FormatOption
from hodei.cli.target import Server, Token, connect
from hodei.client.shapes import Job
from hodei.errors import InvalidInput

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Submit jobs and see what became of them."
)


class Status(StrEnum):
    """What --status takes."""

    PENDING = "pending"
    SCHEDULED = "scheduled"
    ASSIGNED = "assigned"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"


JobId = Annotated[str, typer.Argument(metavar="ID", help="The job's id.", show_default=False)]

app.command(
    "run",
    epilog=example(
        'JOB_ID=$(hodei job run --name hello --provider docker --command "echo hello")',
        'hodei job run --command "make test" --env "CI=1,MODE=fast" --memory 512m --timeout 5m --wait',
        "hodei job run --script build.sh --args '--target \"all of it\"' --follow",
    ),
)(job_run.run)


@app.command(
    "get", epilog=example("hodei job get --id $JOB_ID", "hodei job get $JOB_ID --wait --format json")
)
def get(
    context: typer.Context,
    positional: Annotated[str | None, typer.Argument(metavar="[ID]", show_default=False)] = None,
    job_id: Annotated[str | None, typer.Option("--id", help="The job's id.", metavar="ID")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for its end; exit with the job's code.")] = False,
    form: FormatOption = Format.TEXT,
    server: Server = None,
    token: Token = None,
) -> None:
    """Show a job."""
    if positional and job_id and positional != job_id:
        raise InvalidInput("Name one job: with --id or without, not two.")
    chosen = job_id or positional
    if not chosen:
        raise InvalidInput("Which job? Give its id: hodei job get --id ID.", field="--id")
    with connect(context, server, token) as platform:
        job = platform.wait(chosen) if wait else platform.job(chosen)
    if form is Format.JSON:
        output.put_json(job.document)
    else:
        for line in job_report.lines(job):
            output.put(line)
    if wait:
        raise typer.Exit(job_report.exit_code(job))


@app.command(
    "list",
    epilog=example(
        "hodei job list --status failed --limit 10",
        "hodei job list --label team=data --since 2h --text backup",
    ),
)
def list_jobs(
    context: typer.Context,
    status: Annotated[
        list[Status] | None, typer.Option(help="Only these.", case_sensitive=False, show_default=False)
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option(metavar="K=V", help="Only those with it.", show_default=False)
    ] = None,
    name: Annotated[str | None, typer.Option(help="Only those of this name.", show_default=False)] = None,
    provider: Annotated[
        str | None, typer.Option(help="Only those that asked for it.", show_default=False)
    ] = None,
    since: Since = None,
    until: Until = None,
    text: Words = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first.")] = 50,
    form: FormatOption = Format.TEXT,
    server: Server = None,
    token: Token = None,
) -> None:
    """List jobs, newest first."""
    narrowed = {
        "status": [item.value for item in status or ()] or None,
        "label": [f"{key}={value}" for key, value in inputs.labels(label or ()).items()] or None,
        "name": name,
        "provider": provider,
        **by_time_and_text(since, until, text),
    }
    with connect(context, server, token) as platform:
        jobs = list(platform.jobs(limit=limit, **narrowed))
    if form is Format.JSON:
        output.put_json([job.document for job in jobs])
        return
    if not jobs:
        output.say("No jobs like that." if any(narrowed.values()) else "No jobs.")
        return
    output.put_table(
        ("ID", "NAME", "STATUS", "PROVIDER", "ATTEMPTS", "EXIT", "CREATED", "TOOK"),
        (
            (
                job.id,
                job.name,
                job.status.upper(),
                job.provider_type or job.provider,
                f"{job.attempts}/{job.max_attempts}",
                job.exit_code,
                output.moment(job.created_at),
                output.lasted(job.started_at, job.completed_at),
            )
            for job in jobs
        ),
    )


app.command(
    "logs",
    epilog=example(
        "hodei job logs $JOB_ID --follow",
        "hodei job logs $JOB_ID --tail 20",
        "hodei job logs $JOB_ID --since 5m --grep error --timestamps",
    ),
)(job_logs.logs)


@app.command("cancel", epilog=example("hodei job cancel $JOB_ID", "hodei job cancel $JOB_ID --wait"))
def cancel(
    context: typer.Context,
    job_id: JobId,
    wait: Annotated[bool, typer.Option("--wait", help="Wait till nothing of it lives.")] = False,
    form: FormatOption = Format.TEXT,
    server: Server = None,
    token: Token = None,
) -> None:
    """Cancel a job: TERM to all of it, KILL after its grace; CANCELLED once nothing of it lives.

    With --wait the exit code is 0 when it was cancelled, 1 when it had another end first.
    """
    with connect(context, server, token) as platform:
        job = platform.cancel(job_id)
        if wait:
            job = platform.wait(job_id)
    _show(job, form)
    if wait and job.status != "cancelled":
        raise typer.Exit(1)


@app.command("retry", epilog=example("hodei job retry $JOB_ID", "hodei job retry $JOB_ID --wait"))
def retry(
    context: typer.Context,
    job_id: JobId,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for its end; exit with the job's code.")] = False,
    form: FormatOption = Format.TEXT,
    server: Server = None,
    token: Token = None,
) -> None:
    """Try a job again that failed, timed out or was cancelled: a further attempt, with a log of its own."""
    with connect(context, server, token) as platform:
        job = platform.retry(job_id)
        if wait:
            job = platform.wait(job_id)
    _show(job, form)
    if wait:
        raise typer.Exit(job_report.exit_code(job))


def _show(job: Job, form: Format) -> None:
    if form is Format.JSON:
        output.put_json(job.document)
        return
    output.put(job_report.status_line(job))
    if job.cancel_requested_at and not job.has_ended:
        output.say(f"It is being cancelled. What it waits for: hodei job why {job.id}")
    for line in job_report.cause_lines(job.error) if job.error else ():
        output.say(line)


@app.command("events", epilog=example("hodei job events $JOB_ID"))
def events(
    context: typer.Context,
    job_id: JobId,
    form: FormatOption = Format.TEXT,
    server: Server = None,
    token: Token = None,
) -> None:
    """List what happened to a job, oldest first."""
    with connect(context, server, token) as platform:
        happened = platform.events(job_id)
    if form is Format.JSON:
        output.put_json([event.document for event in happened])
        return
    output.put_table(
        ("TIME", "EVENT", "STATE", "BY"),
        (
            (output.moment(event.occurred_at), event.event_type, event.payload.get("new_state"), event.actor)
            for event in happened
        ),
    )


@app.command("why", epilog=example("hodei job why $JOB_ID"))
def why(
    context: typer.Context,
    job_id: JobId,
    form: FormatOption = Format.TEXT,
    server: Server = None,
    token: Token = None,
) -> None:
    """Say in words why a job is where it is."""
    with connect(context, server, token) as platform:
        answer = platform.why(job_id)
    if form is Format.JSON:
        output.put_json(answer.document)
        return
    output.put(output.visible(answer.summary))
    for detail in answer.details:
        output.put(f"  - {output.visible(detail)}")


@app.command("wait", epilog=example("hodei job wait $JOB_ID && echo it succeeded"))
def wait_for(
    context: typer.Context,
    job_id: JobId,
    form: FormatOption = Format.TEXT,
    server: Server = None,
    token: Token = None,
) -> None:
    """Wait till a job has ended, and exit with its code."""
    with connect(context, server, token) as platform:
        job = platform.wait(job_id)
    if form is Format.JSON:
        output.put_json(job.document)
    else:
        output.put(job_report.status_line(job))
        for line in job_report.cause_lines(job.error) if job.error else ():
            output.say(line)
    raise typer.Exit(job_report.exit_code(job))
