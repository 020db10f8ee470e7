"""The composition root: turns settings into a :class:`~hodei.ports.Platform`, and says a line for each thing that is ready."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlsplit

import structlog

from hodei.domain.ids import DOCKER_PROVIDER_ID, KUBERNETES_PROVIDER_ID, PROCESS_PROVIDER_ID
from hodei.embedded import connection
from hodei.embedded.data_folder import default_data_dir
from hodei.errors import ConfigurationError
from hodei.observability.tracing import open_tracing
from hodei.ports import Platform
from hodei.providers.contract import ProviderError
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
"""A provider that somebody found well so recently is not looked at again at a start: the clock does so every 15 s."""
FIRST_CHECK_S = 3.0
MOMENT_S = 1.0
POOL_SIZES = {"worker-manager": 2 * POOL_SIZE, "all": 2 * POOL_SIZE}
USUAL_BRIDGE = "172.17.0.1"
"""Where Docker puts its bridge when nobody says otherwise."""

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
    with contextlib.suppress(OSError):  # whoever exports a log says why it cannot
        settings.log_dir.mkdir(parents=True, exist_ok=True)  # it is there before a job could make it
    _write_built_in(platform)
    _check_providers(platform)
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


def _check_providers(platform: Platform) -> None:
    """Look at each provider that was not found well just now, a few seconds at most: one that does not answer is said, and never
    stops the start.

    A cluster that nobody asked for, a kubeconfig that happens to be there, is waited for no longer than a moment.
    """
    if not platform.settings.provider_access:
        log.info("providers: left to the clock", provider_access=False)
        return
    with platform.database.begin() as tx:
        rows = [row for row in tx.rows("provider_list") if row.status != "DISABLED"]
        since = tx.scalar("now") - timedelta(seconds=BELIEVED_S)
    known = [row for row in rows if row.status == "ACTIVE" and row.checked_at and row.checked_at > since]
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


def _say_provider(settings: Settings, row: Row, *, ok: bool, message: str) -> None:
    if ok:
        log.info("provider: initialized", provider=row.name, id=str(row.id))
        return
    required = {"docker": settings.docker_enabled, "kubernetes": settings.kubernetes_enabled}
    say = log.error if required.get(row.name) == "1" else log.warning
    say("provider: not available", provider=row.name, id=str(row.id), reason=message)


def bridge_binds(platform: Platform) -> Iterable[tuple[str, int, bool]]:
    """The addresses on which containers and pods reach this machine, and whether one of theirs may stand for many workers, as
    a node's does. None for a provider that is away.

    A Kubernetes provider gets its door when it is well, which takes a namespace that was set up for us: a kubeconfig
    that happens to be there opens nothing to the network.
    """
    if platform.settings.agent_bind is not None:
        return [_agent_bind(platform.settings.agent_bind)]
    if platform.settings.server_host is not None or not platform.settings.provider_access:
        return []  # the operator has said where workers find us
    with platform.database.begin() as tx:
        rows = [row for row in tx.rows("provider_list") if row.status != "DISABLED"]
    well = [row for row in rows if row.provider_type == "kubernetes" and row.status in ("ACTIVE", "DEGRADED")]
    shared = {_pods_door(platform, row) for row in well} - {None}
    own = {_gateway(platform, row) for row in rows if row.provider_type == "docker"} - {None} - shared
    return [(address, 0, address in shared) for address in (*shared, *own) if address]


def _agent_bind(text: str) -> tuple[str, int, bool]:
    parts = urlsplit(f"//{text}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host:
        raise ConfigurationError(
            f"HODEI_AGENT_BIND={text!r} is not a host or host:port such as 172.17.0.1:8082.",
            field="HODEI_AGENT_BIND",
        )
    return host, port or 0, False


def _pods_door(platform: Platform, row: Row) -> str | None:
    from hodei.providers.kubernetes.provider import KubernetesProvider

    try:
        provider = platform.providers.get(row.id)
    except ProviderError:
        return None
    return provider.door() if isinstance(provider, KubernetesProvider) else None


def _gateway(platform: Platform, row: Row) -> str | None:
    """As its last health check found it; one that was made by an older version is asked."""
    usual = USUAL_BRIDGE if sys.platform == "linux" else None  # Docker may come up after us
    if "host_gateway" in row.capabilities:
        is_well = row.status in ("ACTIVE", "DEGRADED")
        found: str | None = row.capabilities["host_gateway"]
        return found if is_well else found or usual
    from hodei.providers.docker.provider import DockerProvider

    try:
        provider = platform.providers.get(row.id)
        return provider.bridge_gateway() if isinstance(provider, DockerProvider) else None
    except ProviderError:
        return usual
