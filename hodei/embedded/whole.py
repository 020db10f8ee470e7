"""All processes of the platform, as ``hodei dev`` and ``hodei demo`` run them: the same ones as in the Procfile."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from hodei.client.client import HodeiClient
from hodei.embedded.ports import is_free, port_holder
from hodei.embedded.services import EmbeddedServices
from hodei.embedded.supervisor import Process
from hodei.errors import HodeiError, PortTaken
from hodei.settings import Settings

LOOK_AGAIN_S = 0.05


def start_servers(settings: Settings, *, ephemeral: bool) -> EmbeddedServices:
    """Start what is not configured; the folder is there in any case."""
    return EmbeddedServices.start(
        settings.data_dir,
        ephemeral=ephemeral,
        postgres=settings.database_url is None,
        redis=settings.redis_url is None,
    )


def environment(data_dir: Path, **more: str) -> dict[str, str]:
    """The children's environment. It holds no password: they find the embedded servers through the data folder."""
    return dict(os.environ) | {"HODEI_DATA_DIR": str(data_dir), "HODEI_DEV_MODE": "1"} | more


def processes(env: Mapping[str, str], *, flower: bool, restart: bool) -> list[Process]:
    """The platform in three processes, and Flower."""
    program = [sys.executable, "-m", "hodei.cli.main"]
    wanted = {"serve": ["serve", "all"], "controller": ["controller"], "beat": ["beat"]}
    if flower:
        wanted["flower"] = ["flower"]
    return [
        Process(name=name, argv=[*program, *arguments], env=env, restart=restart)
        for name, arguments in wanted.items()
    ]


def check_ports(ports: Mapping[str, int]) -> None:
    """Raises PortTaken, naming the setting, before anything is started. ``ports``: setting → port."""
    for setting, port in ports.items():
        if not is_free(port):
            holder = port_holder(port) or f"Port {port} is taken: stop what holds it, or choose another port."
            raise PortTaken(f"{holder} The setting is {setting}.", field=setting)


def wait_until_ready(url: str, *, timeout_s: float, stopped: Callable[[], bool]) -> bool:
    """Until the platform answers and can run a job; False when that took too long or it was stopped."""
    deadline = time.monotonic() + timeout_s
    with HodeiClient(url, timeout_s=2.0) as client:
        while time.monotonic() < deadline and not stopped():
            try:
                checks = client.health().checks
                if all(checks[name].ok for name in ("database", "redis", "controller", "worker_manager")):
                    return True
            except (HodeiError, KeyError):
                pass
            time.sleep(LOOK_AGAIN_S)
    return False


def stop_workers(settings: Settings, servers: EmbeddedServices, *, reason: str) -> int:
    """End what workers are left, once the services are down; return how many there were.

    Only on a database of our own: on a configured one they may be another machine's. Their jobs are tried again when
    the platform is started again. Never raises: it is called on the way out.
    """
    if servers.database_url is None:
        return 0
    from hodei.bootstrap import assemble, find_servers
    from hodei.services import workers

    try:
        found = find_servers(settings.model_copy(update={"data_dir": servers.data_dir}))
        platform = assemble(settings.model_copy(update={"data_dir": servers.data_dir}), found, "stop")
        try:
            return workers.stop_all(platform, reason=reason)
        finally:
            platform.close()
    except HodeiError:
        return 0  # the schema was never made, or Postgres is gone: what is left gives itself up
