"""The agent on a machine of one's own: started by a person or a service, and there for many jobs.

Two processes. The keeper holds the identity and the folder, and does nothing else; the agent is its child. When the agent ends
without having been told to, the keeper kills all that it left, and starts another one, which registers again with the same
session: that registration says that nothing of an earlier attempt lives here.
"""

from __future__ import annotations

import os
import signal
import time
from typing import NoReturn

from hodei_agent import agent, hiding, linux, process_tree
from hodei_agent.errors import (
    EXIT_AGAIN,
    EXIT_DONE,
    EXIT_LEASE_LOST,
    EXIT_REFUSED,
    EXIT_UNAUTHORIZED,
)
from hodei_agent.identity import AlreadyInUse, Home, Kept
from hodei_agent.registration import new_session_token
from hodei_agent.settings import Settings, SettingsError, parse_server

PAUSE_FIRST_S = 1.0
PAUSE_LAST_S = 30.0
STEADY_AFTER_S = 60.0
"""An agent that lived so long was well: the next pause is the first one again."""
FINAL = frozenset({EXIT_DONE, EXIT_UNAUTHORIZED, EXIT_REFUSED})
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def run(given: Settings) -> NoReturn:
    """Be the keeper until the agent leaves for good."""
    home = Home(given.state_dir)
    try:
        home.open()
    except AlreadyInUse:
        agent.fail(EXIT_REFUSED, f"another agent uses {home.path}; give this one its own --state-dir.")
    except OSError as error:
        agent.fail(EXIT_REFUSED, f"the folder {home.path} cannot be used: {error.strerror}; see --state-dir.")
    ours, session_token = _who(given, home)
    _end_leftovers(home)
    home.clear_jobs()
    pause_s = PAUSE_FIRST_S
    registered = False
    while True:
        began = time.monotonic()
        code = _one_life(ours, home, session_token, registered=registered)
        if code in FINAL:
            os._exit(code)
        if time.monotonic() - began > STEADY_AFTER_S:
            pause_s = PAUSE_FIRST_S
        registered = True  # one that is refused at its first try ends the keeper
        agent.say("the agent ended; what it left was killed, and it is started again.")
        time.sleep(pause_s)
        pause_s = min(PAUSE_LAST_S, pause_s * 2)


def _who(given: Settings, home: Home) -> tuple[Settings, str]:
    """The settings, completed by what was kept, and the session's token. A token of another worker makes it another worker."""
    kept = home.read()
    if kept is not None and given.worker_id in ("", kept.worker_id):
        server = given.server or parse_server(kept.server)
        known = kept._replace(server=server.url)
    elif given.server is None or not given.token:
        agent.fail(EXIT_REFUSED, f"{home.path} knows no worker yet: give --server and the --token of one.")
    else:
        known = Kept(given.server.url, given.worker_id, given.token, new_session_token())
    hidden = (*given.hidden, home.secret)
    reason = _obstacle(hidden, home.path)
    if reason is None:
        try:
            home.keep(known)
        except OSError as error:
            agent.fail(EXIT_REFUSED, f"{home.secret} cannot be written: {error.strerror}.")
    else:
        home.forget()
        hidden = given.hidden
        agent.say(
            f"the session is kept in memory alone, because jobs could read it: {reason}. After a restart of this service the "
            "worker has to be registered anew. Run the agent as root, or allow unprivileged user namespaces, to have it kept."
        )
    try:
        server = parse_server(known.server)
    except SettingsError as error:
        agent.fail(EXIT_REFUSED, str(error))
    ours = given._replace(
        server=server, token=known.token, worker_id=known.worker_id, state_dir=home.path, hidden=hidden
    )
    return ours, known.session_token


def _obstacle(hidden: tuple[str, ...], kept: str) -> str | None:
    """Why jobs cannot be kept from the identity here, if so: it is really tried, in a process that ends at once."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(theirs, 1)
        _try(hidden, kept)
    os.close(theirs)
    said = os.read(ours, 4096).decode(errors="replace")
    os.close(ours)
    _, status = os.waitpid(child, 0)
    return None if status == 0 else said or "it did not work"


def _try(hidden: tuple[str, ...], kept: str) -> NoReturn:
    try:
        hiding.try_out(kept, hidden)
    finally:
        os._exit(hiding.UNABLE)


def _one_life(ours: Settings, home: Home, session_token: str, *, registered: bool) -> int:
    """Start an agent, hand on what it is told, and wait till nothing of it is left. Its exit code, or 128 + a signal."""
    keeper = os.getpid()
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    child = os.fork()
    if child == 0:
        linux.die_with_parent(keeper, signal.SIGTERM)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        os._exit(_be_the_agent(ours, home, session_token, registered=registered))
    for number in ENDING:
        signal.signal(number, lambda number, _frame: _hand_on(child, number))
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    status = _end_of(child)
    for number in ENDING:
        signal.signal(number, lambda *_: os._exit(EXIT_DONE))
    _kill_all(os.getpid())
    _end_leftovers(home)
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def _be_the_agent(ours: Settings, home: Home, session_token: str, *, registered: bool) -> int:
    for number in ENDING:
        signal.signal(number, lambda *_: os._exit(EXIT_DONE))
    subreaper = linux.become_subreaper()
    code = agent.serve(
        ours,
        subreaper=subreaper,
        session_token=session_token,
        registered=registered,
        on_begin=home.note_running,
    )
    return EXIT_AGAIN if code in (EXIT_UNAUTHORIZED, EXIT_LEASE_LOST) else code


def _hand_on(child: int, number: int) -> None:
    try:
        os.kill(child, number)
    except ProcessLookupError:
        pass


def _end_of(child: int) -> int:
    """Wait for it, and reap what it orphaned meanwhile."""
    while True:
        pid, status = os.wait()
        if pid == child:
            return status


def _kill_all(root: int) -> None:
    """Kill every descendant until none is left: the keeper adopts what its agent orphans."""
    while True:
        left = process_tree.descendants(root)
        if not left:
            return
        for process in left:
            process_tree.send(process, signal.SIGKILL)
        process_tree.reap()
        time.sleep(0.02)


def _end_leftovers(home: Home) -> None:
    """Kill what is left of the last execution of an earlier life, also when the keeper itself was gone."""
    execution_id = home.last_running()
    if execution_id is None:
        return
    deadline = time.monotonic() + 10.0
    while time.monotonic() < deadline:
        left = [process for process in process_tree.marked(execution_id) if process.pid != os.getpid()]
        if not left:
            return
        for process in left:
            for each in (*process_tree.descendants(process.pid), process):
                process_tree.send(each, signal.SIGKILL)
        time.sleep(0.05)
