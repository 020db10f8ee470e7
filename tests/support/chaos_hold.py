"""Stops a saga in the middle of the transaction that moves one of its steps, so that its controller can be killed right there.

The product has no hook for it: a trigger of the test's own, in the test's own database, waits for an advisory lock that the test
holds. Who waits is seen in ``pg_locks``, and whose connection that is in ``/proc/net/tcp``.
"""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psycopg2

from support.chaos_arena import Arena

LOCK_CLASS = 771
LOOK_EVERY_S = 0.02
BETWEEN_KILLS_S = 1.0
"""Some controller must be there to go on."""

TRIGGER = f"""
CREATE SCHEMA chaos;
CREATE TABLE chaos.hold (id integer PRIMARY KEY, saga_type text, step_name text, to_state text, job_name text, armed boolean);
CREATE FUNCTION chaos.wait() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE wanted integer;
BEGIN
    SELECT h.id INTO wanted FROM chaos.hold h JOIN public.sagas s ON s.id = NEW.saga_id AND s.saga_type = h.saga_type
      LEFT JOIN public.jobs j ON j.id = s.correlation_id
     WHERE h.armed AND h.step_name = NEW.step_name AND h.to_state = NEW.state
       AND (h.job_name IS NULL OR h.job_name = j.name) LIMIT 1;
    IF FOUND THEN
        PERFORM pg_advisory_xact_lock({LOCK_CLASS}, wanted);
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER hold BEFORE UPDATE ON public.saga_steps FOR EACH ROW
    WHEN (OLD.state IS DISTINCT FROM NEW.state) EXECUTE FUNCTION chaos.wait();
"""


@dataclass(frozen=True, kw_only=True)
class Place:
    """The move of a step in whose transaction somebody is killed, or, without ``kill``, waits until the place is let go.

    ``job_name`` None: whoever comes first.
    """

    saga_type: str
    step: str
    to_state: str = "COMPLETED"
    job_name: str | None = None
    kill: bool = True


class Holder:
    """Arms places, kills whoever comes to one, in the middle of its transaction, and lets the place go. Each place holds once."""

    def __enter__(self) -> Holder:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __init__(self, arena: Arena) -> None:
        self.arena = arena
        self.killed: dict[Place, str] = {}
        """Place → the process that was killed there."""

        self._places: dict[int, Place] = {}
        self._connection = psycopg2.connect(arena.postgres.url)
        self._connection.autocommit = True
        self._sql(TRIGGER)
        # Else the other waiting connections of a process that was killed keep their locks until the statement's time-out.
        self._sql("ALTER SYSTEM SET client_connection_check_interval = '500ms'")
        self._sql("SELECT pg_reload_conf()")
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="holder", daemon=True)

    def start(self, places: list[Place]) -> None:
        """Hold at these places from now on."""
        for number, place in enumerate(places):
            self._places[number] = place
            self._sql("SELECT pg_advisory_lock(%s, %s)", LOCK_CLASS, number)
            self._sql(
                "INSERT INTO chaos.hold VALUES (%s, %s, %s, %s, %s, true)",
                number,
                place.saga_type,
                place.step,
                place.to_state,
                place.job_name,
            )
        self._thread.start()

    def is_held(self, place: Place) -> bool:
        """Whether somebody waits there."""
        return any(self._places[number] == place for number, _ in self._waiting())

    def let_go(self, place: Place) -> None:
        """Whoever waits there goes on, and nobody is held there any more."""
        self._disarm(next(number for number, each in self._places.items() if each == place))

    def stop(self) -> None:
        """Hold nobody any more."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(10)
        self._connection.close()

    def _sql(self, statement: str, *parameters: object) -> list[tuple]:
        with self._connection.cursor() as cursor:
            cursor.execute(statement, parameters or None)
            return cursor.fetchall() if cursor.description else []

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_EVERY_S):
            for number, port in self._waiting():
                place = self._places[number]
                if place.kill and place not in self.killed and self._kill(number, port):
                    time.sleep(BETWEEN_KILLS_S)  # not a fact that is waited for: a rate
                    break

    def _waiting(self) -> list[tuple[int, int]]:
        """Places at which somebody waits, and the port of the connection that waits there."""
        rows = self._sql(
            "SELECT l.objid::integer, a.client_port FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid "
            "WHERE l.locktype = 'advisory' AND l.classid = %s AND NOT l.granted ORDER BY a.query_start",
            LOCK_CLASS,
        )
        return [(number, port) for number, port in rows if number in self._places]

    def _kill(self, number: int, port: int) -> bool:
        keeper = self.arena.keeper
        owner = self._owner_of(port)
        if owner is None or not keeper.kill(*owner):
            return False
        self.killed[self._places[number]] = f"{owner[1]} of {owner[0]}"
        self._disarm(number)
        return True

    def _disarm(self, number: int) -> None:
        self._sql("UPDATE chaos.hold SET armed = false WHERE id = %s", number)
        self._sql("SELECT pg_advisory_unlock(%s, %s)", LOCK_CLASS, number)

    def _owner_of(self, port: int) -> tuple[str, str] | None:
        """Which of our processes has the connection from this port."""
        inode = _inode_of(port, self.arena.postgres.port)
        for which, platform in self.arena.keeper.sets.items():
            for process, running in platform.processes.items():
                if inode is not None and inode in _sockets_of(running.pid):
                    return which, process
        return None


def _inode_of(port: int, server_port: int) -> str | None:
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        here, there = (int(words[column].split(":")[1], 16) for column in (1, 2))
        if (here, there) == (port, server_port):
            return words[9]
    return None


def _sockets_of(pid: int) -> set[str]:
    found = set()
    with contextlib.suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                name = str(descriptor.readlink())
                if name.startswith("socket:["):
                    found.add(name[8:-1])
    return found
