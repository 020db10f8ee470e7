"""``just e2e [infra|build|jobs|validate|report|all]``: looks at a whole system, and writes a report."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType

from e2e import activity, report
from e2e.procedure import PHASES, Options, Procedure

ABOUT = {
    "infra": "prerequisites, Postgres, the schema, Redis",
    "build": "the command line and the worker image, built when it is absent",
    "jobs": "services, providers, the five types of jobs, Kubernetes where there is one, a batch",
    "validate": "the SQL about the last run's jobs on the same system, or about five that are run for it",
    "report": "the last report again, with its exit code",
    "all": "all eight phases (default)",
}


class Interrupted(BaseException):
    """SIGINT or SIGTERM."""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="just e2e",
        description="Looks at the system of HODEI_URL, else at this user's hodei dev, else at one that it starts and stops.",
        epilog="\n".join(f"  {word:<9} {about}" for word, about in ABOUT.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("phases", nargs="?", choices=list(ABOUT), default="all", metavar="|".join(ABOUT))
    parser.add_argument(
        "--report", type=Path, default=Path("e2e-report"), metavar="FOLDER", help="default: e2e-report"
    )
    parser.add_argument("--own", action="store_true", help="start a system, whatever runs already")
    parser.add_argument(
        "--log-files", choices=("here", "elsewhere"), default="here",
        help="elsewhere: the system keeps its log files where this machine cannot read them",
    )  # fmt: skip
    parser.add_argument(
        "--silence", type=float, default=activity.SILENCE_S, metavar="SECONDS",
        help=f"how long a job may give no sign of life (default {activity.SILENCE_S:g})",
    )  # fmt: skip
    given = parser.parse_args()
    if given.phases == "report":
        return show(given.report)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    options = Options(
        folder=given.report, own=given.own, silence_s=given.silence, log_files_here=given.log_files == "here"
    )
    try:
        return Procedure(options=options, say=say).run(given.phases)
    except Interrupted as interrupted:
        return 128 + int(str(interrupted))


def show(folder: Path) -> int:
    document = report.read(folder)
    if document is None:
        print(report.NONE_YET.format(folder=folder), file=sys.stderr)
        return 2
    print(report.markdown(document))
    return 0 if document["verdict"] == "PASSED." else 1


def say(line: str) -> None:
    print(line, flush=True)


def _interrupt(number: int, _frame: FrameType | None) -> None:
    """Once: the way out is not to be cut by an impatient second one."""
    for other in (signal.SIGINT, signal.SIGTERM):
        signal.signal(other, signal.SIG_IGN)
    say(f"\n{signal.Signals(number).name}: clearing up ...")
    raise Interrupted(number.real)


assert set(PHASES) | {"report"} == set(ABOUT)

if __name__ == "__main__":
    sys.exit(main())
