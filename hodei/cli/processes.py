"""The commands that are the platform's own processes. What they run is imported when they run."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hodei.cli import output
from hodei.cli.help import example
from hodei.errors import ConfigurationError, HodeiError

if TYPE_CHECKING:
    from hodei.settings import Settings


class ServersNotStarted(HodeiError):
    """The embedded Postgres or Redis did not start."""

    code = "embedded_servers"
    exit_code = 1


SECRET_VARIABLES = (
    "HODEI_DATABASE_URL",
    "DATABASE_URL",
    "HODEI_REDIS_URL",
    "HODEI_SECRET_KEY",
    "HODEI_API_TOKEN",
    "HODEI_FLOWER_BASIC_AUTH",
)
"""Wiped from what ``/proc`` shows of a server once it runs; it has read them by then."""


class Service(StrEnum):
    ORCHESTRATOR = "orchestrator"
    SCHEDULER = "scheduler"
    WORKER_MANAGER = "worker-manager"
    ALL = "all"


db = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The database and its schema.")


def register(app: typer.Typer) -> None:
    """Adds the commands to the program."""
    app.command("dev", epilog=example("hodei dev", "hodei dev --detach"))(dev)
    app.command("stop", epilog=example("hodei stop"))(stop)
    app.command("demo", epilog=example("hodei demo"))(demo)
    app.command("serve", epilog=example("hodei serve all", "hodei serve worker-manager"))(serve)
    app.command("controller", epilog=example("hodei controller"))(controller)
    app.command("beat", epilog=example("hodei beat"))(beat)
    app.command("flower", epilog=example("HODEI_FLOWER_PORT=5556 hodei flower"))(flower)
    app.command("embedded", epilog=example("hodei embedded"))(embedded)
    app.add_typer(db, name="db")


def dev(
    detach: Annotated[
        bool, typer.Option("--detach", help="Return when it is ready; hodei stop ends it.")
    ] = False,
) -> None:
    """Run everything in this terminal.

    Postgres and Redis come from Python wheels where none is configured.
    """
    if detach:
        from hodei.embedded import background

        raise typer.Exit(background.start(output.say))
    _run("hodei.embedded.dev")


def stop() -> None:
    """End what hodei dev runs, also with --detach."""
    from hodei.embedded import background

    raise typer.Exit(background.stop(output.say))


def demo() -> None:
    """Run everything, run one job on it, and report."""
    _run("hodei.embedded.demo")


def serve(
    service: Annotated[Service, typer.Argument(help="Which; all of them in one process with all.")],
) -> None:
    """Run an HTTP service, or all three."""
    chosen = [item.value for item in Service if item is not Service.ALL]
    _run("hodei.api.serve", _settings(), chosen if service is Service.ALL else [service.value])


Check = Annotated[
    bool, typer.Option("--check", help="Start nothing: is the one on this host well? Exits with 1 when not.")
]


def controller(check: Check = False) -> None:
    """Run the Celery worker: dispatch and sagas."""
    if check:
        _check("controller")
    _run("hodei.queue.controller", _settings())


def beat(check: Check = False) -> None:
    """Run the clock: repairs, schedules and the outbox relay."""
    if check:
        _check("beat")
    _run("hodei.services.clock", _settings())


def flower() -> None:
    """Run Flower on the platform's broker, for reading."""
    _run("hodei.queue.flower", _settings())


def embedded() -> None:
    """Run Postgres and Redis where not configured."""
    settings = _settings()
    from hodei.embedded.foreground import run_embedded

    urls = {"database_url": settings.database_url, "redis_url": settings.redis_url}
    with _said_in_a_sentence():
        raise typer.Exit(run_embedded(settings.data_dir, **urls, say=output.say))


@db.command("upgrade", epilog=example("hodei db upgrade"))
def upgrade() -> None:
    """Bring the database's schema to what this version needs."""
    migrated = import_module("hodei.storage.migrate").upgrade(_database_url())
    output.say("The schema was migrated." if migrated else "The schema was up to date already.")


@db.command("check", epilog=example("hodei db check && hodei serve all"))
def check() -> None:
    """Say whether the database has the schema that this version needs; exits with 3 when not."""
    output.say(import_module("hodei.storage.migrate").check(_database_url()))


@db.command(
    "psql",
    context_settings={"ignore_unknown_options": True},
    epilog=example("hodei db psql", 'hodei db psql -c "select id, state from jobs"'),
)
def psql(
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[PSQL ARGUMENTS]", show_default=False)
    ] = None,
) -> None:
    """Open psql on the platform's database."""
    from urllib.parse import unquote, urlsplit, urlunsplit

    from hodei.embedded.wheels import psql as psql_from_wheel

    parts = urlsplit(_database_url().replace("postgresql+psycopg2://", "postgresql://", 1))
    program: str | Path | None = shutil.which("psql") or psql_from_wheel()
    if program is None:
        raise ConfigurationError("There is no psql here: install Postgres's client programs.")
    environment = dict(os.environ)
    netloc = parts.netloc
    if parts.password is not None:  # not among the arguments, which everybody on this machine can read
        environment["PGPASSWORD"] = unquote(parts.password)
        login, _, place = netloc.rpartition("@")
        netloc = f"{login.partition(':')[0]}@{place}"
    url = urlunsplit((parts.scheme, netloc, parts.path, parts.query, ""))
    output.flush()
    os.execvpe(program, [str(program), *(arguments or ()), "--dbname", url], environment)


def _check(kind: str) -> None:
    is_well, sentence = import_module("hodei.cli.own_health").look(_database_url(), kind)
    output.say(sentence)
    raise typer.Exit(0 if is_well else 1)


def _run(module: str, *given: Any) -> None:
    """Calls the module's ``run``; what it returns, if anything, is the exit code.

    A server's environment and memory hold what no job on this machine may read. It prints no tables: structlog, which would
    load rich where it finds it (5 MB), finds none.
    """
    from hodei_agent.linux import make_undumpable, wipe_environment

    make_undumpable()
    wipe_environment(SECRET_VARIABLES)
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]
    with _said_in_a_sentence():
        raise typer.Exit(import_module(module).run(*given) or 0)


@contextmanager
def _said_in_a_sentence() -> Iterator[None]:
    """Gives what the embedded servers raise an exit code."""
    from hodei.embedded.errors import EmbeddedError

    try:
        yield
    except EmbeddedError as error:
        raise ServersNotStarted(str(error)) from error


def _settings() -> Settings:
    from hodei.settings import load_settings

    return load_settings()


def _database_url() -> str:
    """The configured database, else the embedded one when it runs."""
    settings = _settings()
    if settings.database_url:
        return settings.database_url
    from hodei.embedded import connection

    found = connection.discover(settings.data_dir)
    if found and found.database_url:
        return f"postgresql+psycopg2://{found.database_url.partition('://')[2]}"
    raise ConfigurationError(
        "No database is configured and no embedded one runs here: set HODEI_DATABASE_URL, or start hodei dev."
    )
