"""``hodei job run``: submits a job; stdout gets its id and nothing else."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hodei.cli import inputs, interrupted, job_logs, job_report, log_printer, output
from hodei.cli.output import Format, FormatOption
from hodei.cli.target import Server, Token, connect
from hodei.errors import InvalidInput

if TYPE_CHECKING:
    from hodei.client.client import HodeiClient
    from hodei.client.shapes import Job

NAME_LENGTH = 255


def run(
    context: typer.Context,
    command: Annotated[
        str | None,
        typer.Option(
            "--command",
            "-c",
            metavar="LINE",
            help="A shell line as you would type it; with --args the program to execute directly.",
        ),
    ] = None,
    script: Annotated[
        str | None, typer.Option(metavar="FILE", help="A script to run instead; - reads it from stdin.")
    ] = None,
    args: Annotated[
        str | None,
        typer.Option(metavar="ARGUMENTS", help="Arguments in one string, split as a shell splits them."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="What to call it (else the program's or the script's).")
    ] = None,
    provider: Annotated[
        str, typer.Option(metavar="docker|kubernetes|process|auto", help="Where it runs.")
    ] = "auto",
    image: Annotated[str | None, typer.Option(help="The container image.")] = None,
    env: Annotated[
        list[str] | None,
        typer.Option(
            metavar="A=1,B=2",
            help="Variables, repeatable. A comma separates only before another NAME=, "
            "so A=1,2,3 is one variable; a value may contain =.",
        ),
    ] = None,
    secret_env: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="A secret variable, repeatable; its value is taken from this shell."
        ),
    ] = None,
    cpu: Annotated[float | None, typer.Option(help="Cores, such as 0.5.")] = None,
    memory: Annotated[str | None, typer.Option(metavar="SIZE", help="Such as 512m or 1Gi.")] = None,
    timeout: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Longest run: 30 (seconds), 5m, 1h30m.")
    ] = None,
    grace: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Between TERM and KILL when it is stopped.")
    ] = None,
    retries: Annotated[
        int | None, typer.Option(min=0, help="How often it may run again when it failed.", show_default=False)
    ] = None,
    priority: Annotated[
        int | None, typer.Option(min=0, max=9, help="0 to 9, high first.", show_default=False)
    ] = None,
    label: Annotated[list[str] | None, typer.Option(metavar="K=V", help="A label, repeatable.")] = None,
    require: Annotated[
        list[str] | None,
        typer.Option(metavar="K=V", help="A label that the provider must have, repeatable."),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end; exit with the job's code.")] = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="Show the log on stderr till the end; exit with the job's code.")
    ] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Return at once (this is the default).")] = False,
    form: FormatOption = Format.TEXT,
    server: Server = None,
    token: Token = None,
) -> None:
    """Submit a job. Only its id is written to stdout, so JOB_ID=$(hodei job run ...) works."""
    if wait + follow + detach > 1:
        raise InvalidInput("Choose one of --wait, --follow and --detach.")
    job: dict[str, Any] = {
        "name": name if name is not None else script_name(script),
        "command": command,
        "script": inputs.script(script) if _is_exclusive(command, script) else None,
        "args": inputs.arguments(args),
        "image": image,
        "env": inputs.environment(env or ()),
        "secret_env": inputs.secrets(secret_env or (), os.environ),
        "provider": provider,
        "cpu": inputs.cpu(cpu),
        "memory": inputs.memory(memory),
        "timeout_s": inputs.duration_s(timeout, "--timeout"),
        "grace_s": inputs.duration_s(grace, "--grace", zero=True),
        "retries": retries,
        "priority": priority,
        "labels": inputs.labels(label or ()),
        "required_labels": inputs.labels(require or (), "--require"),
    }
    body = {field: value for field, value in job.items() if value is not None and value != {}}
    with connect(context, server, token) as platform:
        submitted = platform.create_job(body)
        if form is Format.TEXT:
            output.put(submitted.id)
            output.flush()
        ended = None
        if wait or follow:
            ended = _accompany(platform, submitted, follow=follow, as_json=form is Format.JSON)
        if form is Format.JSON:
            output.put_json((ended or submitted).document)
        if ended:
            output.say(job_report.status_line(ended))
            for line in job_report.cause_lines(ended.error) if ended.error else ():
                output.say(line)
            raise typer.Exit(job_report.exit_code(ended))


def script_name(file: str | None) -> str | None:
    """What a job is called after its script; the server names the others after their command."""
    if file is None or file == "-":
        return None
    return "".join(letter for letter in Path(file).stem if letter.isprintable())[:NAME_LENGTH] or None


def _is_exclusive(command: str | None, script: str | None) -> bool:
    """Whether there is a script. Exactly one of the two must be there."""
    if (command is None) == (script is None):
        raise InvalidInput(
            "Say what to run with either --command or --script"
            + (", not both." if command is not None else ", such as --command 'echo hello'.")
        )
    if command is not None and not command.strip():
        raise InvalidInput("--command is empty: there is nothing to run.", field="--command")
    return script is not None


def _accompany(platform: HodeiClient, job: Job, *, follow: bool, as_json: bool) -> Job:
    """The job when it has ended; its log meanwhile, if it is to be followed. Ctrl-C asks what to do."""
    printer = log_printer.to_stderr()

    def stay() -> Job:
        if follow:
            job_logs.show_all(platform, job.id, printer)
        return platform.wait(job.id)

    def detached() -> None:
        printer.flush()
        if as_json:
            output.put_json(job.document)

    words = interrupted.of_job(job.id)
    return interrupted.accompany(platform, lambda: platform.cancel(job.id), stay, detached, words)
