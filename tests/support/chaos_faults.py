"""The faults: each does its harm once, says whether it hit, and undoes what only it can undo."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from hodei.errors import HodeiError
from support.chaos_arena import Arena, Target
from support.chaos_docker import signal_if_same
from support.chaos_jobs import KINDS, Submitter
from support.waiting import until

TARGET_WITHIN_S = 90.0
AIMED_WITHIN_S = 3.0
"""How long a kill that is aimed at the middle of a step waits for one."""

OUTAGE_S = (0.2, 2.5)
"""How long a server is away before its supervisor starts it again."""


class Missed(Exception):
    """There was nothing to hit, or something else hit it meanwhile: it is tried again later."""


@dataclass(frozen=True, kw_only=True)
class Hit:
    """``in_step``: a saga's step was IN_PROGRESS under a lease at that moment (the killed controller's own, for controllers)."""

    in_step: bool


class Faults:
    """The faults by name; those that several lanes share are guarded."""

    def __init__(self, arena: Arena, submitter: Submitter) -> None:
        self.arena = arena
        self.submitter = submitter
        self.rng = random.Random(arena.rng.random())
        self._engine = threading.Lock()
        self._engine_restarts = 0
        self._postgres = threading.Lock()
        self._redis = threading.Lock()
        docker: dict[str, Callable[[], Hit]] = {
            "kill -9 of an agent (Docker)": lambda: self._kill_agent("docker"),
            "docker kill of a worker": self._kill_container,
            "restart of dockerd": self._restart_engine,
            f"network cut for {arena.scale.cut_short:g} s": lambda: self._cut(arena.scale.cut_short),
            f"network cut for {arena.scale.cut_kept:g} s, kept": lambda: self._cut(arena.scale.cut_kept),
            f"network cut for {arena.scale.cut_past:g} s, past give-up": lambda: self._cut(
                arena.scale.cut_past
            ),
        }
        self.by_name: dict[str, Callable[[], Hit]] = {
            "kill -9 of orchestrator": lambda: self._kill_process("orchestrator"),
            "kill -9 of worker-manager": lambda: self._kill_process("worker-manager"),
            "kill -9 of controller": lambda: self._kill_process("controller"),
            "kill -9 of beat": lambda: self._kill_process("beat"),
            "kill -9 of an agent (process)": lambda: self._kill_agent("process"),
            "SIGSTOP of an agent past its lease": self._freeze,
            "FLUSHALL": self._flush,
            "Redis killed and restarted empty": self._restart_redis,
            "Postgres killed and restarted": self._restart_postgres,
            **(docker if arena.docker else {}),
        }

    # Our own processes and servers

    def _kill_process(self, process: str) -> Hit:
        arena, which = self.arena, self.rng.choice(sorted(self.arena.sets))
        if not arena.keeper.is_up(which, process):
            raise Missed(f"{process} of {which} is down already")
        pid = arena.keeper.pid(which, process)
        own = pid if process == "controller" else None
        if self.rng.random() < 0.7:  # the rest is at any moment
            deadline = time.monotonic() + AIMED_WITHIN_S
            while not arena.leased_steps(own) and time.monotonic() < deadline:
                time.sleep(0.01)
        in_step = arena.leased_steps(own) > 0
        if arena.keeper.pid(which, process) != pid or not arena.keeper.kill(which, process):
            raise Missed(f"{process} of {which} was killed by another")
        if process == "worker-manager":
            self._await_door(which)
        return Hit(in_step=in_step)

    def _await_door(self, which: str) -> None:
        """Until this set's worker-manager answers again: how long it was away is part of what its workers went through."""
        began = time.time()

        def answers() -> bool:
            with contextlib.suppress(HodeiError), self.arena.api(which) as client:
                client.health("worker_manager")
                return True
            return False

        until(answers, within_s=TARGET_WITHIN_S, what=f"the worker-manager of {which}")
        self.arena.door_outages.append((began, time.time()))

    def _flush(self) -> Hit:
        with self._redis, self.arena.redis.opened() as client:
            in_step = self.arena.leased_steps() > 0
            client.flushall()
        return Hit(in_step=in_step)

    def _restart_redis(self) -> Hit:
        with self._redis:
            in_step = self.arena.leased_steps() > 0
            self.arena.redis.kill()
            self._outage()
            self.arena.redis.start()
        return Hit(in_step=in_step)

    def _restart_postgres(self) -> Hit:
        with self._postgres:
            in_step = self.arena.leased_steps() > 0
            self.arena.postgres.kill()
            self._outage()
            self.arena.postgres.start()
        return Hit(in_step=in_step)

    def _outage(self) -> None:
        time.sleep(self.rng.uniform(*OUTAGE_S))  # the outage itself: there is no fact to wait for

    # Workers

    def _kill_agent(self, provider: str) -> Hit:
        target = self._any_target(provider)
        in_step = self._disturb(target, f"its agent ({provider}) was killed")
        if not signal_if_same(target.pid, target.started, signal.SIGKILL):
            raise Missed("the agent had left")
        return Hit(in_step=in_step)

    def _kill_container(self) -> Hit:
        target = self._any_target("docker")
        in_step = self._disturb(target, "its container was killed")
        self._docker("kill", target.resource_id)
        return Hit(in_step=in_step)

    def _freeze(self) -> Hit:
        arena, scale = self.arena, self.arena.scale
        provider = self.rng.choice(self.submitter.providers)
        target = self._own_target(provider, seconds=scale.frozen * 1.4)
        in_step = self._disturb(target, "its agent was stopped")
        began = time.time()
        if not signal_if_same(target.pid, target.started, signal.SIGSTOP):
            raise Missed("the agent had left")
        time.sleep(scale.frozen)  # the fault itself
        signal_if_same(target.pid, target.started, signal.SIGCONT)
        self._must_have_lost(arena, target, silent_since=began)
        return Hit(in_step=in_step)

    def _cut(self, seconds: float) -> Hit:
        """Take a container's network away and give it back; only past give-up may that cost its attempt."""
        past = seconds > self.arena.scale.give_up_after
        target = self._own_target("docker", seconds=seconds * 1.5 + 3)
        restarts = self._engine_restarts
        in_step = self._disturb(target, "its network was cut") if past else self._in_step(target)
        began = time.time()
        self._docker("network", "disconnect", "bridge", target.resource_id)
        time.sleep(seconds)  # the fault itself
        with contextlib.suppress(Missed):  # it is given up and gone, or an engine's restart ended it
            self._docker("network", "connect", "bridge", target.resource_id)
        if self._engine_restarts != restarts:
            raise Missed("the engine was restarted meanwhile")
        if past:
            self._must_have_lost(self.arena, target, silent_since=began)
        return Hit(in_step=in_step)

    def _restart_engine(self) -> Hit:
        """In order, or with -9: either way no container outlives it."""
        docker = self.arena.docker
        assert docker is not None
        with self._engine:
            in_step = self.arena.leased_steps() > 0
            self._engine_restarts += 1
            began = self.arena.now()
            self.arena.engine_outages.append((began, float("inf")))
            place = len(self.arena.engine_outages) - 1
            if self.rng.random() < 0.5:
                docker.stop()
            else:
                docker.kill()
            self._outage()
            docker.start()
            self._engine_restarts += 1
            self.arena.engine_outages[place] = (began, self.arena.now())
        return Hit(in_step=in_step)

    # What they share

    def _any_target(self, provider: str) -> Target:
        try:
            return until(lambda: self.arena.target(provider), within_s=TARGET_WITHIN_S, what="a running job")
        except AssertionError as error:
            raise Missed(str(error)) from None

    def _own_target(self, provider: str, *, seconds: float) -> Target:
        """A job that runs long enough for the fault, and its next attempt only for a moment."""
        made = self.submitter.submit(
            KINDS["target"], provider, seconds=seconds, later=1.0, pause=0.5, priority=9
        )
        try:
            return until(
                lambda: self.arena.target(provider, made.job_id),
                within_s=TARGET_WITHIN_S,
                what="the target's start",
            )
        except AssertionError as error:
            raise Missed(str(error)) from None

    def _disturb(self, target: Target, reason: str) -> bool:
        self.arena.disturbed[target.worker_id] = reason
        return self._in_step(target)

    def _in_step(self, target: Target) -> bool:
        leased = (
            "SELECT count(*) FROM sagas s WHERE s.correlation_id = %s AND s.lease_expires > clock_timestamp() "
            "AND EXISTS (SELECT FROM saga_steps st WHERE st.saga_id = s.id AND st.state = 'IN_PROGRESS')"
        )
        return bool(self.arena.value(leased, target.job_id))

    def _must_have_lost(self, arena: Arena, target: Target, *, silent_since: float) -> None:
        """Whoever was silent past the give-up has lost its attempt, and another one comes.

        Raises Missed when a worker-manager was away meanwhile: from then on silence counted anew, and the worker may have
        come back in time.
        """

        def lost() -> bool:
            rows = arena.sql(
                "SELECT state FROM hodei.executions WHERE job_id = %s AND attempt = %s",
                target.job_id,
                target.attempt,
            )
            return rows == [("lost",)]

        try:
            until(lost, within_s=30, what=f"the loss of attempt {target.attempt} of {target.job_id}")
        except AssertionError as error:
            if any(ended >= silent_since for _, ended in arena.door_outages):
                raise Missed("a worker-manager was away meanwhile") from error
            raise AssertionError(f"{error}\n{arena.words(target.job_id)}") from None

    def _docker(self, *words: str) -> None:
        """Docker's own command; while the engine is away it is asked again. Raises Missed when it refuses."""
        docker = self.arena.docker
        assert docker is not None
        deadline = time.monotonic() + TARGET_WITHIN_S
        while True:
            try:
                docker.docker(*words)
                return
            except subprocess.CalledProcessError as error:
                away = (
                    "Cannot connect" in error.stderr or "EOF" in error.stderr or "connection" in error.stderr
                )
                if not away or time.monotonic() > deadline:
                    raise Missed(error.stderr.strip()) from None
                time.sleep(0.2)
