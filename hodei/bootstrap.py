"""The composition root: turns settings into a :class:`~hodei.ports.Platform`, and says a line for each thing that is ready."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from hodei.domain.ids import DOCKER_PROVIDER_ID, KUBERNETES_PROVIDER_ID, PROCESS_PROVIDER_ID
from hodei.embedded import connection
from hodei.embedded.data_folder import default_data_dir
from hodei.errors import ConfigurationError
from hodei.observability.tracing import open_tracing
from hodei.ports import Platform
from hodei.queue.courier import CeleryCourier
from hodei.queue.fanout import RedisWakeups
from hodei.queue.names import key_prefix
from hodei.secret_key import own_secret_key
from hodei.services import waiting
from hodei.services.provider_set import ConfiguredProviders
from hodei.services.providers import check_and_record
from hodei.settings import Settings
from hodei.storage import migrate
from hodei.storage.database import POOL_SIZE, Database
from hodei.storage.transaction import Row
from hodei.vault import Vault

log = structlog.get_logger("hodei.start")

EMBEDDED_WAIT_S = 60.0
BELIEVED_S = 60.0
"""A service that seldom uses providers does not look at one that was found well so recently: the clock does so every 15 s."""
BELIEVERS = ("orchestrator", "scheduler", "worker-manager")
FIRST_CHECK_S = 3.0
MOMENT_S = 1.0
LOG_FOLDER_WAITS_S = 3.0
POOL_SIZES = {"worker-manager": 2 * POOL_SIZE, "all": 2 * POOL_SIZE}
BUILT_IN = (
    ("docker", DOCKER_PROVIDER_ID, 20, 8),
    ("kubernetes", KUBERNETES_PROVIDER_ID, 10, 20),
    ("process", PROCESS_PROVIDER_ID, 0, 8),
)
"""Name, id, priority and room of the providers that are there without being asked for."""


@dataclass(frozen=True, kw_only=True)
class Servers:
    """Where Postgres and Redis are, and the key for secrets."""

    database_url: str
    redis_url: str
    secret_key: str


def find_servers(settings: Settings) -> Servers:
    """The configured servers; what is not configured is embedded, and waited for."""
    database_url, redis_url, secret_key = settings.database_url, settings.redis_url, settings.secret_key
    if not (database_url and redis_url):
        found = connection.wait_for_embedded(settings.data_dir, EMBEDDED_WAIT_S)
        database_url = database_url or found.database_url
        redis_url = redis_url or found.redis_url
        secret_key = secret_key or found.secret_key
    if not database_url or not redis_url:
        raise ConfigurationError(
            "Set both HODEI_DATABASE_URL and HODEI_REDIS_URL, or neither and start: hodei embedded"
        )
    return Servers(
        database_url=_with_driver(database_url),
        redis_url=redis_url,
        secret_key=secret_key or own_secret_key(settings.data_dir or default_data_dir()),
    )


def _with_driver(url: str) -> str:
    return "postgresql+psycopg2://" + url.partition("://")[2]


def open_platform(settings: Settings, role: str) -> Platform:
    """Connect, migrate, open everything. Raises a HodeiError that says what to do; a provider that is away is no error."""
    servers = find_servers(settings)
    migrated = migrate.upgrade(servers.database_url)
    platform = assemble(settings, servers, role)
    platform.database.ping()
    log.info("database: connected", deployment=platform.database.deployment)
    log.info("migrations: done", changed=migrated)
    _make_log_folder(platform)
    _write_built_in(platform)
    _check_providers(platform, role)
    if platform.tracing.on:
        log.info("traces: sent where OTEL_EXPORTER_OTLP_ENDPOINT says")
    log.info("provisioning: configured", enabled=settings.provisioning_enabled)
    log.info("worker lifecycle management: started", heartbeat_interval_s=settings.heartbeat_interval)
    return platform


def assemble(settings: Settings, servers: Servers, role: str) -> Platform:
    """Wire a platform over a schema that is up to date, and start nothing."""
    database = Database(
        servers.database_url, pool_size=POOL_SIZES.get(role, POOL_SIZE), application_name=f"hodei {role}"
    )
    return Platform(
        settings=settings,
        database=database,
        courier=CeleryCourier(servers.redis_url, database),
        wakeups=RedisWakeups(
            servers.redis_url,
            f"{key_prefix(database.deployment)}wake",
            lambda keys: waiting.facts(database, keys),
        ),
        providers=ConfiguredProviders(settings, database, settings.data_dir or default_data_dir()),
        vault=Vault(servers.secret_key),
        process_name=role,
        tracing=open_tracing(os.environ, role),
    )


def _make_log_folder(platform: Platform) -> None:
    """It is there before a job could make it. One that cannot be made, or hangs, stops no start: no job's end needs it."""
    folder = platform.settings.log_dir
    try:
        platform.log_folder.do(
            "make", lambda: folder.mkdir(parents=True, exist_ok=True), wait_s=LOG_FOLDER_WAITS_S
        )
    except OSError as error:
        log.warning(
            "folder of the logs: not available (HODEI_LOG_DIR)", path=str(folder), reason=error.strerror
        )


def _write_built_in(platform: Platform) -> None:
    settings = platform.settings
    wanted = {
        "docker": settings.docker_enabled != "0",
        "kubernetes": settings.kubernetes_enabled != "0",
        "process": settings.process_provider,
    }
    with platform.database.begin() as tx:
        for name, provider_id, priority, max_workers in BUILT_IN:
            if wanted[name]:
                tx.execute(
                    "provider_upsert_builtin",
                    id=provider_id,
                    name=name,
                    provider_type=name,
                    config={},
                    priority=priority,
                    max_workers=max_workers,
                )
                tx.execute("provider_set_enabled_by_settings", id=provider_id)
            elif not tx.execute("provider_delete_unused", id=provider_id):
                tx.execute("provider_set_disabled_by_settings", id=provider_id)


def _check_providers(platform: Platform, role: str) -> None:
    """Look at each provider, a few seconds at most: one that does not answer is said, and never stops the start.

    A cluster that nobody asked for, a kubeconfig that happens to be there, is waited for no longer than a moment.
    """
    if not platform.settings.provider_access:
        log.info("providers: left to the clock", provider_access=False)
        return
    with platform.database.begin() as tx:
        rows = [row for row in tx.rows("provider_list") if row.status != "DISABLED"]
        since = tx.scalar("now") - timedelta(seconds=BELIEVED_S)
    known = [row for row in rows if role in BELIEVERS and _is_known_well(platform.settings, row, since)]
    for row in known:
        _say_provider(platform.settings, row, ok=True, message="")
    rows = [row for row in rows if row not in known]
    if not rows:
        return
    pool = ThreadPoolExecutor(max_workers=max(1, len(rows)), thread_name_prefix="first-check")
    looking = {pool.submit(check_and_record, platform, row): row for row in rows}
    asked_for = [
        future
        for future, row in looking.items()
        if row.provider_type != "kubernetes" or platform.settings.kubernetes_enabled == "1"
    ]
    wait(looking, timeout=MOMENT_S)
    wait(asked_for, timeout=FIRST_CHECK_S - MOMENT_S)
    done, late = wait(looking, timeout=0)
    for future in done:
        row = looking[future]
        error = future.exception()
        health = None if error else future.result()
        message = str(error) if health is None else health.message
        _say_provider(platform.settings, row, ok=health is not None and health.ok, message=message)
    for future in late:
        _say_provider(platform.settings, looking[future], ok=False, message="it did not answer in time")
    pool.shutdown(wait=False)


def _is_known_well(settings: Settings, row: Row, since: datetime) -> bool:
    """Not one that must be reachable: that is looked at by every process."""
    found_well = row.status == "ACTIVE" and row.checked_at is not None and row.checked_at > since
    return found_well and not _is_required(settings, row)


def _is_required(settings: Settings, row: Row) -> bool:
    return {"docker": settings.docker_enabled, "kubernetes": settings.kubernetes_enabled}.get(row.name) == "1"


def _say_provider(settings: Settings, row: Row, *, ok: bool, message: str) -> None:
    if ok:
        log.info("provider: initialized", provider=row.name, id=str(row.id))
        return
    say = log.error if _is_required(settings, row) else log.warning
    say("provider: not available", provider=row.name, id=str(row.id), reason=message)
