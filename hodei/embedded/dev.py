"""``hodei dev``: everything in one terminal, until Ctrl-C."""

from __future__ import annotations

import os
import threading

from hodei.embedded import state_file, whole
from hodei.embedded.supervisor import Supervisor
from hodei.settings import load_settings

READY_WITHIN_S = 60.0
JOBS_OF_ROOT = (
    "You are root, and so are jobs on the process provider: only those that you trust with this machine. "
    "Docker's jobs are not root."
)


def run() -> int:
    """Run the platform in the foreground; return the exit code. Raises a HodeiError before anything is started."""
    settings = load_settings(dev_mode=True)
    url = f"http://127.0.0.1:{settings.orchestrator_port}"
    whole.check_ports(
        {
            "HODEI_ORCHESTRATOR_PORT": settings.orchestrator_port,
            "HODEI_SCHEDULER_PORT": settings.scheduler_port,
            "HODEI_WORKER_MANAGER_PORT": settings.worker_manager_port,
            "HODEI_FLOWER_PORT": settings.flower_port,
        }
    )
    with whole.start_servers(settings, ephemeral=False) as servers:
        env = whole.environment(servers.data_dir)
        env.setdefault("HODEI_LOG_FORMAT", "console")
        supervisor = Supervisor(whole.processes(env, flower=True, restart=True), tick=servers.revive)
        over = threading.Event()
        state_file.write(url, token=settings.api_token)

        def announce() -> None:
            if whole.wait_until_ready(url, timeout_s=READY_WITHIN_S, stopped=over.is_set):
                supervisor.say(
                    f"Ready: {url} (pages: {url}/swagger-ui, http://127.0.0.1:{settings.flower_port})"
                )
                supervisor.say(
                    'In another terminal: hodei job run --name hello --command "echo hello" --follow'
                )
                if os.geteuid() == 0:
                    supervisor.say(JOBS_OF_ROOT)
                supervisor.say("Ctrl-C stops everything.")
            elif not over.is_set():
                supervisor.say("Not everything is ready yet. Ask what is missing: hodei status")

        threading.Thread(target=announce, name="announce", daemon=True).start()
        try:
            return supervisor.run()
        finally:
            over.set()
            state_file.remove()
            stopped = whole.stop_workers(settings, servers, reason="hodei dev was stopped")
            if stopped:
                supervisor.say(f"Ended {stopped} workers; their jobs are tried again by the next hodei dev.")
