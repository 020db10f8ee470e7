"""``hodei schedule``: definitions that run at certain times."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hodei.cli import inputs, output
from hodei.cli.help import example
from hodei.cli.output import Format, FormatOption
from hodei.cli.target import Server, Token, connect
from hodei.errors import InvalidInput

if TYPE_CHECKING:
    from hodei.client.schedules import Schedule, UpcomingTime

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Run a job's definition at certain times."
)


class Overlap(StrEnum):
    SKIP = "skip"
    QUEUE = "queue"
    REPLACE = "replace"
    ALLOW = "allow"


class CatchUp(StrEnum):
    NONE = "none"
    LAST = "last"
    ALL = "all"


class Status(StrEnum):
    SCHEDULED = "scheduled"
    PAUSED = "paused"
    ENDED = "ended"


ScheduleId = Annotated[str, typer.Argument(metavar="ID", help="The schedule's id.", show_default=False)]
Cron = Annotated[
    str | None,
    typer.Option(
        metavar="EXPR", help='Five fields, such as "30 2 * * MON-FRI", or @daily.', show_default=False
    ),
]
At = Annotated[
    str | None,
    typer.Option("--at", metavar="TIME", help="Once, such as 2030-05-01T12:00.", show_default=False),
]
Zone = Annotated[str, typer.Option("--timezone", metavar="ZONE", help="Such as Europe/Berlin.")]


@app.command(
    "create",
    epilog=example(
        'hodei schedule create --job $JOB_ID --cron "30 2 * * *" --timezone Europe/Berlin',
        "hodei schedule create --job $JOB_ID --cron @hourly --overlap queue --jitter 5m --pause-after-failures 3",
        "hodei schedule create --job $JOB_ID --at 2030-05-01T12:00:00Z",
    ),
)
def create(
    context: typer.Context,
    job: Annotated[
        str, typer.Option(metavar="ID", help="The job whose definition is run.", show_default=False)
    ],
    cron: Cron = None,
    at: At = None,
    timezone: Zone = "UTC",
    name: Annotated[str | None, typer.Option(help="Without one, the job's.", show_default=False)] = None,
    command: Annotated[
        str | None,
        typer.Option(help="A shell line in place of the definition's command.", show_default=False),
    ] = None,
    overlap: Annotated[Overlap, typer.Option(help="While the run before is still going.")] = Overlap.SKIP,
    catch_up: Annotated[CatchUp, typer.Option(help="Times that were missed.")] = CatchUp.LAST,
    catch_up_limit: Annotated[int, typer.Option(min=1, help="With --catch-up all: at most so many.")] = 100,
    jitter: Annotated[
        str | None, typer.Option(metavar="TIME", help="Later by up to so much.", show_default=False)
    ] = None,
    start: Annotated[
        str | None, typer.Option(metavar="TIME", help="No time before this one counts.", show_default=False)
    ] = None,
    end: Annotated[
        str | None, typer.Option(metavar="TIME", help="No time after this one counts.", show_default=False)
    ] = None,
    pause_after_failures: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Pause after N failed runs in a row.", show_default=False),
    ] = None,
    form: FormatOption = Format.TEXT,
    server: Server = None,
    token: Token = None,
) -> None:
    """Have a job's definition run at certain times, each time as a job of its own. Writes the schedule's id to stdout."""
    document: dict[str, Any] = _times(cron, at, timezone) | {
        "job_id": job,
        "overlap": overlap.value,
        "catch_up": catch_up.value,
        "catch_up_limit": catch_up_limit,
        "jitter_s": inputs.duration_s(jitter, "--jitter", zero=True) or 0.0,
    }
    more = {
        "name": name,
        "command": command,
        "start_at": start,
        "end_at": end,
        "pause_after_failures": pause_after_failures,
    }
    document |= {key: value for key, value in more.items() if value is not None}
    with connect(context, server, token) as platform:
        made = platform.create_schedule(document)
    if form is Format.JSON:
        output.put_json(made.document)
        return
    output.put(made.id)
    output.say(f"{output.visible(made.description)}. Next: {output.moment(made.next_at)}")


@app.command("list", epilog=example("hodei schedule list", "hodei schedule list --status paused"))
def list_schedules(
    context: typer.Context,
    status: Annotated[
        Status | None, typer.Option(help="Only these.", case_sensitive=False, show_default=False)
    ] = None,
    job: Annotated[
        str | None, typer.Option(metavar="ID", help="Only those of this definition.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first.")] = 50,
    form: FormatOption = Format.TEXT,
    server: Server = None,
    token: Token = None,
) -> None:
    """List schedules, newest first."""
    with connect(context, server, token) as platform:
        found = list(platform.schedules(limit=limit, status=status.value if status else None, job_id=job))
    if form is Format.JSON:
        output.put_json([item.document for item in found])
        return
    if not found:
        output.say("No schedules." if status is None else f"No schedules that are {status.value}.")
        return
    output.put_table(
        ("ID", "NAME", "STATUS", "WHEN", "OVERLAP", "NEXT", "LAST", "REASON"),
        (
            (
                item.id,
                item.name,
                item.status.upper(),
                item.description,
                item.overlap,
                output.moment(item.next_at),
                output.moment(item.last_at),
                item.reason,
            )
            for item in found
        ),
    )


@app.command(
    "next",
    epilog=example(
        "hodei schedule next $SCHEDULE_ID --count 3",
        'hodei schedule next --cron "30 2 * * *" --timezone Europe/Berlin',
    ),
)
def upcoming(
    context: typer.Context,
    schedule_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="The schedule's id.", show_default=False)
    ] = None,
    cron: Cron = None,
    at: At = None,
    timezone: Zone = "UTC",
    count: Annotated[int, typer.Option(min=1, max=100, help="So many, of a schedule that there is.")] = 5,
    form: FormatOption = Format.TEXT,
    server: Server = None,
    token: Token = None,
) -> None:
    """Show the next times of a schedule; or with --cron or --at say in words what they would be, storing nothing."""
    if schedule_id is not None and (cron or at):
        raise InvalidInput("Name a schedule, or give --cron or --at, not both.")
    if schedule_id is None:
        _would_be(context, _times(cron, at, timezone), form, server, token)
        return
    with connect(context, server, token) as platform:
        times = platform.upcoming(schedule_id, count=count)
        if not times:
            found = platform.schedule(schedule_id)
            output.say(f"No time comes any more. {output.visible(found.reason)}")
    if form is Format.JSON:
        output.put_json([item.document for item in times])
        return
    _put_times(times)


def _would_be(
    context: typer.Context, times: dict[str, Any], form: Format, server: str | None, token: str | None
) -> None:
    with connect(context, server, token) as platform:
        said = platform.validate_schedule(times)
    if form is Format.JSON:
        output.put_json(said.document)
    elif said.valid:
        output.say(output.visible(said.message))
        _put_times(said.upcoming)
    if not said.valid:
        raise InvalidInput(said.message, field=said.field)


def _put_times(times: list[UpcomingTime]) -> None:
    for item in times:
        output.put(f"{output.moment(item.scheduled_for)}  ({output.visible(item.local)})")


def _times(cron: str | None, at: str | None, timezone: str) -> dict[str, Any]:
    if (cron is None) == (at is None):
        raise InvalidInput("When? Give either --cron or --at.", field="--cron")
    return {"timezone": timezone} | ({"cron": cron} if cron is not None else {"schedule_time": at})


@app.command("pause", epilog=example("hodei schedule pause $SCHEDULE_ID"))
def pause(
    context: typer.Context,
    schedule_id: ScheduleId,
    form: FormatOption = Format.TEXT,
    server: Server = None,
    token: Token = None,
) -> None:
    """Have a schedule fire no more till it is resumed. What it started goes on."""
    with connect(context, server, token) as platform:
        _show(platform.change_schedule(schedule_id, {"status": "paused"}), form)


@app.command("resume", epilog=example("hodei schedule resume $SCHEDULE_ID"))
def resume(
    context: typer.Context,
    schedule_id: ScheduleId,
    form: FormatOption = Format.TEXT,
    server: Server = None,
    token: Token = None,
) -> None:
    """Have a paused schedule fire again, from now on: times that went by are not made up for."""
    with connect(context, server, token) as platform:
        _show(platform.change_schedule(schedule_id, {"status": "scheduled"}), form)


def _show(schedule: Schedule, form: Format) -> None:
    if form is Format.JSON:
        output.put_json(schedule.document)
        return
    output.put(f"Status: {schedule.status.upper()}")
    if schedule.next_at:
        output.put(f"Next: {output.moment(schedule.next_at)}")
    if schedule.reason:
        output.say(output.visible(schedule.reason))


@app.command(
    "trigger",
    epilog=example("hodei schedule trigger $SCHEDULE_ID", "JOB_ID=$(hodei schedule trigger $SCHEDULE_ID)"),
)
def trigger(
    context: typer.Context,
    schedule_id: ScheduleId,
    form: FormatOption = Format.TEXT,
    server: Server = None,
    token: Token = None,
) -> None:
    """Fire a schedule now. Writes the job's id to stdout; exits with 1 when it was skipped, and says why."""
    with connect(context, server, token) as platform:
        fired = platform.trigger_schedule(schedule_id)
    if form is Format.JSON:
        output.put_json(fired.document)
    elif fired.job_id is not None:
        output.put(fired.job_id)
    if fired.outcome == "waiting":
        output.say("It waits for the runs before it.")
    if fired.job_id is None:
        output.say(f"It was skipped: {output.visible(fired.reason)}")
        raise typer.Exit(1)


@app.command("delete", epilog=example("hodei schedule delete $SCHEDULE_ID"))
def delete(
    context: typer.Context, schedule_id: ScheduleId, server: Server = None, token: Token = None
) -> None:
    """Delete a schedule. The jobs that it made stay."""
    with connect(context, server, token) as platform:
        platform.delete_schedule(schedule_id)
    output.say(f"Schedule {output.visible(schedule_id)} is deleted.")
