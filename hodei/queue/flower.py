"""Flower on the platform's broker: to look, never to act, and never the record."""

from __future__ import annotations

import atexit
import os
import threading
from pathlib import Path

import structlog

from hodei.errors import PortTaken
from hodei.exposure import flower_credentials
from hodei.settings import Settings

log = structlog.get_logger(__name__)

LEAVE_WITHIN_S = 1.5


def run(settings: Settings) -> None:
    """Serve Flower until SIGTERM. Raises PortTaken, and ConfigurationError when it would be open to everybody."""
    from hodei.bootstrap import find_servers
    from hodei.embedded.data_folder import default_data_dir
    from hodei.embedded.ports import is_free, port_holder
    from hodei.observability.logs import configure_logging
    from hodei.queue.app import make_app
    from hodei.storage import migrate
    from hodei.storage.database import Database

    configure_logging(settings.log_format, service="flower")
    credentials = flower_credentials(settings)
    if settings.flower_port and not is_free(settings.flower_port):
        holder = port_holder(settings.flower_port) or f"port {settings.flower_port} is taken"
        raise PortTaken(f"{holder} Choose another with HODEI_FLOWER_PORT.", field="HODEI_FLOWER_PORT")
    servers = find_servers(settings)
    migrate.upgrade(servers.database_url)  # it may be the first to come to an empty database
    database = Database(servers.database_url, pool_size=1, application_name="hodei flower")
    app = make_app(servers.redis_url, database.deployment)
    database.close()
    folder: Path = settings.data_dir or default_data_dir()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if credentials is not None:
        _want(credentials)
    log.info(
        "flower: started",
        url=f"http://{settings.bind}:{settings.flower_port}",
        user=credentials.partition(":")[0] if credentials else None,
    )
    try:
        app.start(
            [
                "flower",
                f"--address={settings.bind}",
                f"--port={settings.flower_port}",
                "--persistent=True",
                f"--db={folder / 'flower.db'}",
                "--read_only=True",
                "--enable_events=True",
                "--max_tasks=10000",
                "--logging=warning",
            ]
        )
    finally:
        _leave()


def _want(credentials: str) -> None:
    """Not as an argument, which Flower would split at a comma."""
    import flower.options  # noqa: F401 (it defines the option)
    from tornado.options import options

    options.basic_auth = [credentials]


def _leave() -> None:
    """End now: Flower's own pool asks workers for their state and would hold the process until they answer."""
    saving = threading.Thread(target=atexit._run_exitfuncs, daemon=True)  # Flower saves its state there
    saving.start()
    saving.join(LEAVE_WITHIN_S)
    log.info("flower: stopped")
    os._exit(0)
