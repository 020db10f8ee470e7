"""``hodei pipeline``: jobs in a graph, and their runs."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from hodei.cli import output
from hodei.cli.help import example
from hodei.cli.output import Format, FormatOption
from hodei.cli.target import Server, Token, connect
from hodei.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from hodei.client.client import HodeiClient
    from hodei.client.pipelines import Pipeline

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Run jobs in a graph.")


class RunStatus(StrEnum):
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


Named = Annotated[str, typer.Argument(metavar="NAME", help="The pipeline's name or id.", show_default=False)]
File = Annotated[
    str | None,
    typer.Option(
        "--file", "-f", metavar="FILE", help="A YAML file; - reads it from stdin.", show_default=False
    ),
]


@app.command(
    "create",
    epilog=example(
        "hodei pipeline create -f pipeline.yaml",
        'hodei pipeline create --name nightly --description "attached jobs"',
    ),
)
def create(
    context: typer.Context,
    file: File = None,
    name: Annotated[
        str | None, typer.Option(help="In place of the file's; alone, the plain form.", show_default=False)
    ] = None,
    description: Annotated[str | None, typer.Option(help="What it is for.", show_default=False)] = None,
    form: FormatOption = Format.TEXT,
    server: Server = None,
    token: Token = None,
) -> None:
    """Make a pipeline of a file, or a plain one to which jobs are attached. Writes its id to stdout."""
    given = {key: value for key, value in (("name", name), ("description", description)) if value is not None}
    if file is None and name is None:
        raise InvalidInput("Give a file with --file, or a name with --name.", field="--file")
    with connect(context, server, token) as platform:
        if file is None:
            made = platform.create_pipeline(given)
        else:
            made = _of_file(file, lambda document: platform.create_pipeline(document | given))
    _put(made, form)


@app.command("update", epilog=example("hodei pipeline update release -f pipeline.yaml"))
def update(
    context: typer.Context,
    pipeline: Named,
    file: Annotated[
        str,
        typer.Option(
            "--file", "-f", metavar="FILE", help="A YAML file; - reads it from stdin.", show_default=False
        ),
    ],
    form: FormatOption = Format.TEXT,
    server: Server = None,
    token: Token = None,
) -> None:
    """Make a pipeline what a file says. Runs keep the jobs that they began with."""
    with connect(context, server, token) as platform:
        found = pipeline_id(platform, pipeline)
        whole: dict[str, Any] = {"description": "", "params": {}, "max_parallel": None}
        made = _of_file(file, lambda document: platform.change_pipeline(found, whole | document))
    _put(made, form)


def _of_file(file: str, send: Any) -> Pipeline:
    """What the server made of the file. Its refusals are said with the file's lines."""
    from hodei.cli import pipeline_file
    from hodei.client.errors import ServerRefused

    read = pipeline_file.read(file)
    try:
        return send(read.document)
    except ServerRefused as refusal:
        if refusal.http_status not in (400, 422):
            raise
        raise read.refused(str(refusal.problem.get("detail") or refusal.message), refusal.field) from None


def _put(made: Pipeline, form: Format) -> None:
    if form is Format.JSON:
        output.put_json(made.document)
        return
    output.put(made.id)
    jobs = "the plain form" if made.jobs is None else f"{len(made.jobs)} jobs"
    output.say(f"Pipeline {output.visible(made.name)}, version {made.version}: {jobs}.")


@app.command("list", epilog=example("hodei pipeline list"))
def list_pipelines(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first.")] = 50,
    form: FormatOption = Format.TEXT,
    server: Server = None,
    token: Token = None,
) -> None:
    """List pipelines, newest first."""
    with connect(context, server, token) as platform:
        found = list(platform.pipelines(limit=limit))
    if form is Format.JSON:
        output.put_json([item.document for item in found])
        return
    if not found:
        output.say("No pipelines.")
        return
    output.put_table(
        ("ID", "NAME", "STATUS", "VERSION", "JOBS", "CREATED", "DESCRIPTION"),
        (
            (
                item.id,
                item.name,
                item.status.upper(),
                item.version,
                item.job_count,
                output.moment(item.created_at),
                item.description,
            )
            for item in found
        ),
    )


@app.command("show", epilog=example("hodei pipeline show release"))
def show(
    context: typer.Context,
    pipeline: Named,
    form: FormatOption = Format.TEXT,
    server: Server = None,
    token: Token = None,
) -> None:
    """Show a pipeline and its jobs."""
    with connect(context, server, token) as platform:
        found = platform.pipeline(pipeline_id(platform, pipeline))
    if form is Format.JSON:
        output.put_json(found.document)
        return
    output.put_fields(
        (
            ("ID", found.id),
            ("Name", found.name),
            ("Description", found.description),
            ("Status", found.status.upper()),
            ("Version", found.version),
            ("At most at a time", found.max_parallel),
        )
    )
    for name, param in found.params.items():
        default = "required" if param.get("required") else f"default {output.visible(param.get('default'))}"
        output.put(f"Parameter {output.visible(name)}: {default}")
    if found.jobs:
        output.put_table(
            ("JOB", "NEEDS", "WHEN", "MATRIX", "COMMAND"),
            (
                (
                    job["key"],
                    ", ".join(job["needs"]),
                    job["when"],
                    " × ".join(f"{axis} ({len(values)})" for axis, values in (job["matrix"] or {}).items()),
                    (job["command"] or job["script"] or "").strip().split("\n")[0],
                )
                for job in found.jobs
            ),
        )


@app.command("delete", epilog=example("hodei pipeline delete release"))
def delete(context: typer.Context, pipeline: Named, server: Server = None, token: Token = None) -> None:
    """Delete a pipeline with its runs. The jobs that they made stay."""
    with connect(context, server, token) as platform:
        platform.delete_pipeline(pipeline_id(platform, pipeline))
    output.say(f"Pipeline {output.visible(pipeline)} is deleted.")


@app.command("schema", epilog=example("hodei pipeline schema > pipeline.schema.json"))
def schema(context: typer.Context, server: Server = None, token: Token = None) -> None:
    """Write the JSON Schema of a pipeline's file, for editors that complete and check YAML."""
    with connect(context, server, token) as platform:
        output.put_json(platform.pipeline_schema())


@app.command("runs", epilog=example("hodei pipeline runs release --status failed"))
def runs(
    context: typer.Context,
    pipeline: Named,
    status: Annotated[
        RunStatus | None, typer.Option(help="Only these.", case_sensitive=False, show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first.")] = 20,
    form: FormatOption = Format.TEXT,
    server: Server = None,
    token: Token = None,
) -> None:
    """List a pipeline's runs, newest first."""
    with connect(context, server, token) as platform:
        wanted = status.value if status else None
        found = list(platform.pipeline_runs(pipeline_id(platform, pipeline), limit=limit, status=wanted))
    if form is Format.JSON:
        output.put_json([item.document for item in found])
        return
    if not found:
        output.say("No runs.")
        return
    output.put_table(
        ("ID", "NUMBER", "STATUS", "SUCCEEDED", "FAILED", "SKIPPED", "STARTED", "TOOK"),
        (
            (
                item.id,
                item.number,
                item.status.upper(),
                item.counts.get("succeeded"),
                item.counts.get("failed"),
                item.counts.get("skipped"),
                output.moment(item.created_at),
                output.lasted(item.created_at, item.completed_at),
            )
            for item in found
        ),
    )


def pipeline_id(platform: HodeiClient, pipeline: str) -> str:
    """The id of the pipeline that is named by it, or by its name. Raises NotFound."""
    try:
        return str(UUID(pipeline))
    except ValueError:
        for found in platform.pipelines(limit=1, name=pipeline):
            return found.id
    raise NotFound(f"There is no pipeline {pipeline!r}. List them with: hodei pipeline list")
