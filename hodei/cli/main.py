"""The program: its commands, and the one place where a mistake becomes a sentence and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from hodei.cli import job, output, pipeline_run, processes, resources, schedule
from hodei.cli.help import example
from hodei.cli.status import status
from hodei.cli.target import Server, Target, Token
from hodei.errors import HodeiError, InvalidInput

NAMES = ("hodei", "hodei-jobs-cli")
BROKEN_PIPE = 141
"""As a shell shows a program that SIGPIPE ended."""

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
    epilog=example('hodei job run --name hello --command "echo hello" --follow', "hodei job list"),
)
app.add_typer(job.app, name="job")
app.add_typer(resources.provider, name="provider")
app.add_typer(resources.worker, name="worker")
app.add_typer(resources.saga, name="saga")
app.add_typer(pipeline_run.app, name="pipeline")
app.add_typer(schedule.app, name="schedule")
app.command("status", epilog=example("hodei status"))(status)
processes.register(app)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"hodei {version('hodei-jobs')}")
        raise typer.Exit


@app.callback()
def hodei(
    context: typer.Context,
    server: Server = None,
    token: Token = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Run jobs on Docker, Kubernetes or this machine, and see what became of them."""
    context.obj = Target(url=server or "", token=token)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command and exits. Every failure ends here."""
    code = _ended(list(sys.argv[1:] if arguments is None else arguments))
    try:
        sys.stdout.flush()
    except OSError as error:
        code = BROKEN_PIPE if isinstance(error, BrokenPipeError) else code or _fail(f"{error.strerror}.", 1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python complains when it flushes at its end
    raise SystemExit(code)


def _ended(arguments: list[str]) -> int:
    output.prepare()
    called = Path(sys.argv[0]).name
    program = called if called in NAMES else NAMES[0]
    try:
        return app(arguments, prog_name=program, standalone_mode=False) or 0
    except HodeiError as error:
        hint = f" Try '{program} --help'." if isinstance(error, InvalidInput) else ""
        return _fail(error.message + hint, error.exit_code)
    except KeyboardInterrupt:
        return 130
    except typer.Abort:
        return _fail("Given up.", 1)
    except UnicodeEncodeError:
        return _fail("An argument is not valid UTF-8. Put such bytes into a script: --script FILE.", 2)
    except OSError as error:
        return _fail(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}.", 1)
    except Exception as error:
        if not hasattr(error, "show"):  # typer's own, about how the command was called
            raise
        error.show()
        return int(getattr(error, "exit_code", 2))


def _fail(sentence: str, code: int) -> int:
    sys.stderr.write(f"Error: {sentence}\n")
    return code


if __name__ == "__main__":
    main()
