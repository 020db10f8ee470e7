"""``hodei demo``: the whole platform for one job, a report, and nothing left."""

from __future__ import annotations

import sys
import threading
import time
from datetime import datetime
from pathlib import Path

from hodei.client.client import HodeiClient
from hodei.client.shapes import Job
from hodei.embedded import whole
from hodei.embedded.ports import free_port
from hodei.embedded.supervisor import Supervisor
from hodei.errors import HodeiError
from hodei.settings import load_settings

READY_WITHIN_S = 60.0
COMMAND = 'for i in 1 2 3; do echo "step $i of 3 on $(uname -s), attempt $HODEI_ATTEMPT"; sleep 0.5; done; echo done'
JOB = {"name": "demo", "command": COMMAND, "provider": "process", "timeout_s": 60}


def run() -> int:
    """Run one job on servers and services of its own; 0 only if it SUCCEEDED."""
    began = time.monotonic()
    settings = load_settings(dev_mode=True, generic_database_url=False)
    _say("Starting Postgres, Redis and the platform on free ports of this machine ...")
    with whole.start_servers(settings, ephemeral=True) as servers:
        ports = {name: free_port() for name in ("ORCHESTRATOR", "SCHEDULER", "WORKER_MANAGER")}
        env = whole.environment(
            servers.data_dir,
            HODEI_DOCKER_ENABLED="0",
            HODEI_KUBERNETES_ENABLED="0",
            HODEI_PROCESS_ENABLED="1",
            HODEI_BIND="127.0.0.1",
            HODEI_LOG_DIR=str(servers.data_dir / "logs"),
            **{f"HODEI_{name}_PORT": str(port) for name, port in ports.items()},
        )
        env.pop("DATABASE_URL", None)
        record = servers.data_dir / "demo.log"
        with record.open("w", encoding="utf-8") as output:
            supervisor = Supervisor(
                whole.processes(env, flower=False, restart=False), output=output, tick=servers.revive
            )
            demo = _Demo(f"http://127.0.0.1:{ports['ORCHESTRATOR']}", supervisor, settings.api_token, began)
            threading.Thread(target=demo.run, name="demo", daemon=True).start()
            try:
                code = supervisor.run()
            finally:
                demo.over.set()
                whole.stop_workers(settings, servers, reason="hodei demo was stopped")
        if not demo.reported:
            _say("The platform did not work. Its last words:")
            _say(_last_lines(record))
            return code or 1
        return code


class _Demo:
    """One job from the outside, through the same client as the command line."""

    def __init__(self, url: str, supervisor: Supervisor, token: str | None, began: float) -> None:
        self.url = url
        self.supervisor = supervisor
        self.token = token
        self.began = began
        self.over = threading.Event()
        self.reported = False

    def run(self) -> None:
        code = 1
        try:
            code = self._run()
        except HodeiError as error:
            _say(f"Error: {error.message}")
        finally:
            self.supervisor.request_stop(code)

    def _run(self) -> int:
        if not whole.wait_until_ready(self.url, timeout_s=READY_WITHIN_S, stopped=self.over.is_set):
            return 1
        _say(f"Ready after {time.monotonic() - self.began:.1f} s. Submitting a job:\n\n    {COMMAND}\n")
        with HodeiClient(self.url, self.token) as client:
            job = client.create_job(JOB)
            first_s: float | None = None
            for entry in client.follow_log(job.id):
                first_s = first_s or time.monotonic() - self.began
                print(f"    | {entry.text}", flush=True)  # noqa: T201
            job = client.wait(job.id)
            self._report(client, job, first_s)
        self.reported = True
        return 0 if job.status == "succeeded" else 1

    def _report(self, client: HodeiClient, job: Job, first_s: float | None) -> None:
        times = {event.event_type: _when(event.occurred_at) for event in reversed(client.events(job.id))}
        created, assigned, started = times["JobCreated"], times.get("JobAssigned"), _when(job.started_at)
        ended = _when(job.completed_at)
        rows = [
            ("Status", f"{job.status.upper()} (Status Code: {job.status_code}), exit code {job.exit_code}"),
            ("Worker made and connected", _span(created, assigned)),
            ("Handed over and started", _span(assigned, started)),
            ("Ran", _span(started, ended)),
            ("In all", _span(created, ended)),
            ("First line of output", f"{first_s:.1f} s after the start of this demo" if first_s else "none"),
        ]
        print()  # noqa: T201
        for name, value in rows:
            print(f"    {name:<28}{value}")  # noqa: T201
        _say(
            f"\nIts rows, in a Postgres that goes away now: jobs, workers, domain_events, sagas and job_log_files "
            f"(correlation_id {job.id}).\nTo keep one running: hodei dev"
        )


def _when(text: str | datetime | None) -> datetime | None:
    if isinstance(text, str):
        return datetime.fromisoformat(text)
    return text


def _span(begin: datetime | None, end: datetime | None) -> str:
    return "-" if begin is None or end is None else f"{(end - begin).total_seconds():.3f} s"


def _say(text: str) -> None:
    print(text, file=sys.stdout, flush=True)  # noqa: T201


def _last_lines(path: Path, count: int = 25) -> str:
    return "\n".join(path.read_text(encoding="utf-8").splitlines()[-count:])
