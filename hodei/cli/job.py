"""``hodei job``: what became of jobs."""

from __future__ import annotations

import json
from collections import deque
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import typer

from hodei.cli import inputs, job_report, job_run, log_printer, output
from hodei.cli.help import example
from hodei.cli.output import Format, FormatOption
from hodei.cli.target import Server, Token, connect
from hodei.client.shapes import LogEntry
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


@app.command("list", epilog=example("hodei job list --status failed --limit 10"))
def list_jobs(
    context: typer.Context,
    status: Annotated[
        Status | None, typer.Option(help="Only these.", case_sensitive=False, show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first.")] = 50,
    form: FormatOption = Format.TEXT,
    server: Server = None,
    token: Token = None,
) -> None:
    """List jobs, newest first."""
    with connect(context, server, token) as platform:
        jobs = list(platform.jobs(limit=limit, status=status.value if status else None))
    if form is Format.JSON:
        output.put_json([job.document for job in jobs])
        return
    if not jobs:
        output.say("No jobs." if status is None else f"No jobs that are {status.value}.")
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


@app.command("logs", epilog=example("hodei job logs $JOB_ID --follow", "hodei job logs $JOB_ID --tail 20"))
def logs(
    context: typer.Context,
    job_id: JobId,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on till the job's end; exit with the job's code.")
    ] = False,
    tail: Annotated[int | None, typer.Option(min=0, metavar="N", help="Only the last N lines.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="T", help="Only what came after a time, or in the last 5m.")
    ] = None,
    form: FormatOption = Format.TEXT,
    server: Server = None,
    token: Token = None,
) -> None:
    """Print a job's output: its stdout to stdout, its stderr to stderr, as it was written.

    It is the last attempt's output; with --follow that of later attempts too.
    """
    start = inputs.moment(since, datetime.now(UTC))
    printer = log_printer.to_both()
    with connect(context, server, token) as platform:
        job = platform.job(job_id)
        attempt, after = job.attempts, 0
        skipped = 0 if tail is None else max(0, job.log.entries - tail)
        stored = deque(platform.log(job_id, after=skipped, attempt=attempt or None), maxlen=tail)
        after = stored[-1].seq if stored else skipped
        shown = [entry for entry in stored if job_report.is_since(entry, start)]
        if form is Format.JSON and not follow:
            output.put_json([entry.document for entry in shown])
            return

        def show(entry: LogEntry) -> None:
            if form is Format.JSON:
                output.put(json.dumps(entry.document))
                output.flush()
            else:
                printer.show(entry)

        for entry in shown:
            show(entry)
        if not follow:
            return
        for entry in platform.follow_log(job_id, attempt=attempt, after=after):
            if job_report.is_since(entry, start):
                show(entry)
        raise typer.Exit(job_report.exit_code(platform.wait(job_id)))


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
