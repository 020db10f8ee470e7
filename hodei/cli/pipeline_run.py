"""``hodei pipeline run`` and what is done with runs; stdout gets a run's id and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from hodei.cli import interrupted, output, pipeline_file, pipeline_report
from hodei.cli.help import example
from hodei.cli.output import Format, FormatOption
from hodei.cli.pipeline import Named, app, pipeline_id
from hodei.cli.target import Server, Token, connect
from hodei.errors import InvalidInput

if TYPE_CHECKING:
    from hodei.client.client import HodeiClient
    from hodei.client.pipelines import PipelineRun

RunId = Annotated[str, typer.Argument(metavar="RUN", help="The run's id.", show_default=False)]
Follow = Annotated[bool, typer.Option("--follow", help="Show each job on stderr as it goes, till the end.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait for the end; exit with 1 if it did not succeed.")]


@app.command(
    "run",
    epilog=example(
        "hodei pipeline run release --param version=1.2.3 --follow",
        "RUN_ID=$(hodei pipeline run release --param version=1.2.3 --wait)",
    ),
)
def run(
    context: typer.Context,
    pipeline: Named,
    param: Annotated[
        list[str] | None, typer.Option(metavar="K=V", help="A parameter's value, repeatable.")
    ] = None,
    wait: Wait = False,
    follow: Follow = False,
    form: FormatOption = Format.TEXT,
    server: Server = None,
    token: Token = None,
) -> None:
    """Run a pipeline. Only the run's id is written to stdout, so RUN_ID=$(hodei pipeline run NAME) works."""
    if wait and follow:
        raise InvalidInput("Choose one of --wait and --follow.")
    values = pipeline_file.params(param or [])
    with connect(context, server, token) as platform:
        started = platform.run_pipeline(pipeline_id(platform, pipeline), values)
        _accompany(platform, started, wait=wait, follow=follow, form=form)


@app.command(
    "status", epilog=example("hodei pipeline status $RUN_ID", "hodei pipeline status $RUN_ID --follow")
)
def status(
    context: typer.Context,
    run_id: RunId,
    wait: Wait = False,
    follow: Follow = False,
    form: FormatOption = Format.TEXT,
    server: Server = None,
    token: Token = None,
) -> None:
    """Show how far a run is: each node's state, its job, and why; with --wait or --follow at its end."""
    with connect(context, server, token) as platform:
        found = platform.run(run_id)
        ended = _stay(platform, found, follow=follow) if wait or follow else found
    if form is Format.JSON:
        output.put_json(ended.document)
    else:
        for line in pipeline_report.lines(ended):
            output.put(line)
        pipeline_report.put_nodes(ended.nodes)
    if wait or follow:
        _exit(ended)


@app.command("cancel", epilog=example("hodei pipeline cancel $RUN_ID"))
def cancel(
    context: typer.Context,
    run_id: RunId,
    form: FormatOption = Format.TEXT,
    server: Server = None,
    token: Token = None,
) -> None:
    """Cancel a run: what waits never starts, and each job that is going is cancelled."""
    with connect(context, server, token) as platform:
        asked = platform.cancel_run(run_id)
    if form is Format.JSON:
        output.put_json(asked.document)
        return
    output.put(pipeline_report.status_line(asked))
    if not asked.has_ended:
        output.say(f"It is being cancelled. Look with: hodei pipeline status {output.visible(run_id)} --wait")


@app.command("resume", epilog=example("hodei pipeline resume $RUN_ID --follow"))
def resume(
    context: typer.Context,
    run_id: RunId,
    wait: Wait = False,
    follow: Follow = False,
    form: FormatOption = Format.TEXT,
    server: Server = None,
    token: Token = None,
) -> None:
    """Go on with a run that failed or was cancelled: what did not succeed is done again, what succeeded is kept."""
    if wait and follow:
        raise InvalidInput("Choose one of --wait and --follow.")
    with connect(context, server, token) as platform:
        resumed = platform.resume_run(run_id)
        _accompany(platform, resumed, wait=wait, follow=follow, form=form)


def _accompany(
    platform: HodeiClient, started: PipelineRun, *, wait: bool, follow: bool, form: Format
) -> None:
    """Show its id, and stay with it if that is wanted. Ctrl-C asks what to do."""
    if form is Format.TEXT:
        output.put(started.id)
        output.flush()
    if not (wait or follow):
        if form is Format.JSON:
            output.put_json(started.document)
        return
    ended = _stay(platform, started, follow=follow, as_json=form is Format.JSON)
    if form is Format.JSON:
        output.put_json(ended.document)
    output.say(pipeline_report.status_line(ended))
    _exit(ended)


def _stay(platform: HodeiClient, run: PipelineRun, *, follow: bool, as_json: bool = False) -> PipelineRun:
    """The run when it has ended; its nodes meanwhile, if it is to be followed."""
    shown = pipeline_report.NodeLines()

    def stay() -> PipelineRun:
        if follow:
            from hodei.client.pipelines import RunNode

            for said in platform.follow_run(run.id):
                if isinstance(said, RunNode):
                    shown.show(said)
        return platform.wait_run(run.id)

    def detached() -> None:
        if as_json:
            output.put_json(run.document)

    words = interrupted.Words(
        goes_on=f"The run goes on. Cancel it with: hodei pipeline cancel {run.id}",
        look=f"Look again with: hodei pipeline status {run.id} --follow",
        thing="the run",
    )
    return interrupted.accompany(platform, lambda: platform.cancel_run(run.id), stay, detached, words)


def _exit(run: PipelineRun) -> None:
    raise typer.Exit(0 if run.status == "succeeded" else 1)
