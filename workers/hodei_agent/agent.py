"""The life of the agent: settings, protection, registration, work, clean-up, exit code."""

from __future__ import annotations

import os
import signal
import sys
from typing import Callable, NoReturn

from hodei_agent import linux, settings
from hodei_agent.client import Client
from hodei_agent.errors import (
    EXIT_DONE,
    EXIT_LEASE_LOST,
    EXIT_REFUSED,
    EXIT_UNAUTHORIZED,
    LeaseLost,
    Refused,
    Unauthorized,
)
from hodei_agent.lease import Lease
from hodei_agent.registration import PATIENCE_S, register

SAY_UNREACHABLE_AFTER = 5
"""Failures in a row before the agent says on stderr that it cannot reach the platform."""


def run(arguments: list[str]) -> NoReturn:
    """Be an agent, with the settings of the process's environment, and end the process."""
    if arguments[:1] == ["--try-hiding"]:
        from hodei_agent import hiding

        hiding.try_out(arguments[1], arguments[2:])
    linux.make_undumpable()
    subreaper = linux.become_subreaper()
    os.umask(0o022)
    _default_signals()
    try:
        ours = settings.read(os.environ, arguments)
    except settings.SettingsError as error:
        fail(EXIT_REFUSED, str(error))
    linux.wipe_environment(["HODEI_TOKEN"])
    if ours.self_hosted:
        from hodei_agent import self_hosted

        self_hosted.run(ours)
    os._exit(serve(ours, subreaper=subreaper))


def serve(
    ours: settings.Settings,
    *,
    subreaper: bool,
    session_token: str | None = None,
    registered: bool = False,
    on_begin: Callable[[str], object] | None = None,
) -> int:
    """Register, and work until it is time to leave; return the exit code. A registration that is refused ends the process.

    `registered`: that this worker did before, with the same `session_token`.
    """
    assert ours.server is not None
    lease = Lease(PATIENCE_S)
    client = Client(ours.server, ours.token, lease, registered=registered)
    trouble = _Trouble(ours.server.url)
    try:
        registration = register(
            client,
            ours,
            ours.path,
            on_sent=_import_the_rest,
            on_failure=trouble.note,
            session_token=session_token,
        )
    except Unauthorized:
        fail(EXIT_UNAUTHORIZED, f"{ours.server.url} does not accept {_whom(ours)}")
    except Refused as refusal:
        fail(EXIT_REFUSED, f"{ours.server.url} refused the registration: {refusal}")
    except LeaseLost as error:
        fail(EXIT_LEASE_LOST, f"{ours.server.url} could not be reached for {PATIENCE_S:g} s: {error}")
    from hodei_agent import job_environment
    from hodei_agent.supervisor import Supervisor

    try:
        state_dir = job_environment.make_state_dir(ours.state_dir)
    except OSError as error:
        fail(EXIT_REFUSED, f"there is no folder that the agent can write to: {error}")
    supervisor = Supervisor(ours, registration, lease, state_dir, subreaper=subreaper, on_begin=on_begin)
    exit_code = supervisor.run(client)
    job_environment.remove(state_dir)
    return exit_code


def _whom(ours: settings.Settings) -> str:
    if not ours.self_hosted:
        return "this worker's one-time token."
    return "this worker: it was ended there, or its token was used elsewhere or too late. Register it anew: hodei worker register"


class _Trouble:
    """Says once that the platform cannot be reached: a person looking at the container wants to know."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._failures = 0

    def note(self, trouble: str) -> None:
        self._failures += 1
        if self._failures == SAY_UNREACHABLE_AFTER:
            say(f"{self._url} cannot be reached yet ({trouble}); trying on.")


def _import_the_rest() -> None:
    """Called while the platform thinks about our registration: what is needed only after it."""
    import hodei_agent.supervisor  # noqa: F401


def _default_signals() -> None:
    """Undo what we inherited: an ignored or blocked signal would be so in the job, too."""
    for number in range(1, signal.NSIG):
        try:
            ignored = signal.getsignal(number) is signal.SIG_IGN
            if ignored and number not in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores these for itself.
                signal.signal(number, signal.SIG_DFL)
        except (OSError, ValueError):
            continue
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: os._exit(EXIT_DONE))


def say(sentence: str) -> None:
    """Tell a person who looks at the agent's stderr."""
    try:
        os.write(2, f"hodei-agent: {sentence}\n".encode())
    except OSError:
        pass


def fail(code: int, sentence: str) -> NoReturn:
    """End the process, with a sentence for a person."""
    say(sentence)
    sys.stdout.flush()
    os._exit(code)
