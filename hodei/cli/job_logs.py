"""``hodei job logs``: a job's output, as it was written or as it is being written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from hodei.cli import inputs, job_report, log_printer, output
from hodei.cli.output import Format, FormatOption
from hodei.cli.target import Server, Token, connect
from hodei.client.shapes import LogAttempt, LogEnd, LogEntry, LogSelection

if TYPE_CHECKING:
    from hodei.cli.log_printer import LogPrinter
    from hodei.client.client import HodeiClient

INCOMPLETE = "The log is incomplete: a part of what the job wrote did not arrive (ERR_1016)."


def logs(
    context: typer.Context,
    job_id: Annotated[str, typer.Argument(metavar="ID", help="The job's id.", show_default=False)],
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on till the job's end; exit with the job's code.")
    ] = False,
    tail: Annotated[int | None, typer.Option(min=0, metavar="N", help="Only the last N lines.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="T", help="Only what came after a time, or in the last 5m.")
    ] = None,
    grep: Annotated[str | None, typer.Option(metavar="TEXT", help="Only lines that hold this text.")] = None,
    ignore_case: Annotated[
        bool, typer.Option("--ignore-case", help="For --grep: do not tell large from small letters.")
    ] = False,
    timestamps: Annotated[
        bool, typer.Option("--timestamps", help="Before each line, when it was written.")
    ] = False,
    attempt: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="This attempt's output, not the last one's.")
    ] = None,
    form: FormatOption = Format.TEXT,
    server: Server = None,
    token: Token = None,
) -> None:
    """Print a job's output: its stdout to stdout, its stderr to stderr, as it was written.

    It is the last attempt's output; with --follow that of later attempts too. A server that restarts is waited for.
    """
    selection = LogSelection(
        tail=tail, since=inputs.since(since, datetime.now(UTC)), grep=grep, ignore_case=ignore_case
    )
    printer = log_printer.to_both(timestamps=timestamps)
    with connect(context, server, token) as platform:
        if follow:
            raise typer.Exit(_follow(platform, job_id, attempt, selection, printer, form))
        pages = platform.log_pages(job_id, attempt=attempt, selection=selection)
        complete = True
        if form is Format.JSON:
            documents = []
            for page in pages:
                documents += [entry.document for entry in page.entries]
            output.put_json(documents)
            return
        for page in pages:
            for entry in page.entries:
                printer.show(entry)
            printer.flush()
            complete = page.complete
    if not complete:
        output.say(INCOMPLETE)


def _follow(
    platform: HodeiClient,
    job_id: str,
    attempt: int | None,
    selection: LogSelection,
    printer: LogPrinter,
    form: Format,
) -> int:
    """Shows the log till its end; the exit code that the job's end means."""
    told = platform.log_events(
        job_id, place=None, attempt=attempt, selection=selection, idle=_flush(printer, form)
    )
    ended = None
    try:
        for item in _announced(told, printer) if form is Format.TEXT else told:
            if isinstance(item, LogEnd):
                ended = item
            elif isinstance(item, LogEntry):
                if form is Format.JSON:
                    output.put(json.dumps(item.document))
                else:
                    printer.show(item)
    finally:
        _flush(printer, form)()
    if ended is not None and not ended.log.complete:
        output.say(INCOMPLETE)
    if attempt is not None and ended is not None:
        return 0 if ended.execution_status == "completed" else 1
    return job_report.exit_code(platform.wait(job_id))


def _flush(printer: LogPrinter, form: Format) -> log_printer.Flush:
    return output.flush if form is Format.JSON else printer.flush


def _announced(
    told: Iterable[LogEntry | LogAttempt | LogEnd], printer: LogPrinter
) -> Iterator[LogEntry | LogAttempt | LogEnd]:
    """The same; an attempt that begins after another is said on stderr."""
    shown = False
    for item in told:
        if isinstance(item, LogAttempt) and shown:
            printer.flush()
            output.say(f"Attempt {item.attempt} begins.")
        shown = True
        yield item


def show_all(platform: HodeiClient, job_id: str, printer: LogPrinter) -> None:
    """Shows everything that the printer has not shown yet. Interrupted, it can be called again."""
    told = platform.log_events(job_id, place=printer.place, idle=printer.flush)
    try:
        for item in _announced(told, printer):
            if isinstance(item, LogEntry):
                printer.show(item)
            elif isinstance(item, LogEnd) and not item.log.complete:
                printer.flush()
                output.say(INCOMPLETE)
    finally:
        printer.flush()
