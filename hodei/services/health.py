"""Is it all well, and if not, what to do: the facts behind ``/health`` and ``hodei status``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hodei import __version__
from hodei.errors import DatabaseUnavailable
from hodei.ports import Platform
from hodei.storage.database import HOW_IT_WRITES_AGAIN
from hodei.storage.transaction import Row

LATE_FACTOR = 3
LATE_AT_LEAST_S = 15.0
EXPORTED_WITHIN_S = 150.0
"""The clock exports once a minute what was left to it: after two such turns something is in its way."""


def check(platform: Platform, service: str) -> dict[str, Any]:
    """The service and what it depends on: ``ok``, ``degraded`` (it can be used, something is missing) or ``down``."""
    checks: dict[str, dict[str, Any]] = {}
    try:
        only_reads = platform.database.only_reads()
        with platform.database.glance() as tx:
            loops = tx.rows("loops")
            outbox = tx.row("outbox_age") or Row(pending=0, oldest_s=None)
            unexported = tx.row("executions_log_to_export_count") or Row(waiting=0, oldest_s=None)
        checks["database"] = _database(only_reads=only_reads)
    except DatabaseUnavailable as error:
        checks["database"] = _bad(error.message)
        return _answer("down", service, checks)
    away = platform.courier.ping()
    checks["redis"] = _ok("Redis answers.") if away is None else _bad(away)
    checks["controller"] = _controller(platform, [row for row in loops if row.name.startswith("controller:")])
    checks["clock"] = _clock([row for row in loops if ":" not in row.name])
    checks["worker_manager"] = _door([row for row in loops if row.name.startswith("door:")])
    checks["outbox"] = _outbox(outbox)
    checks["log_files"] = _log_files(platform, unexported)
    status = "ok" if all(item["ok"] for item in checks.values()) else "degraded"
    return _answer(status, service, checks)


def check_own(loops: Sequence[Row], kind: str, host: str) -> dict[str, Any]:
    """Of a process that serves no HTTP: whether a ``controller`` of this host consumes, or a ``beat``'s loops all progress."""
    if kind == "beat":
        return _clock([row for row in loops if ":" not in row.name])
    own = [row for row in loops if row.name.startswith(f"controller:{host}:") and not _late(row)]
    if own:
        return _ok(f"It consumed or echoed something {min(row.age_s for row in own):.0f} s ago.")
    return _bad("No controller of this host is consuming.")


def _answer(status: str, service: str, checks: dict[str, Any]) -> dict[str, Any]:
    return {"status": status, "service": service, "version": __version__, "checks": checks}


def _ok(message: str) -> dict[str, Any]:
    return {"ok": True, "message": message}


def _bad(message: str) -> dict[str, Any]:
    return {"ok": False, "message": message}


def _database(*, only_reads: bool) -> dict[str, Any]:
    if only_reads:
        return _bad(f"Postgres answers, but only reads: nothing goes on. {HOW_IT_WRITES_AGAIN}")
    return _ok("Postgres answers.")


def _late(row: Row) -> bool:
    return row.age_s > max(LATE_AT_LEAST_S, LATE_FACTOR * row.interval_s)


def _controller(platform: Platform, rows: list[Row]) -> dict[str, Any]:
    if not platform.settings.job_controller_enabled:
        return _ok("Dispatch is switched off (HODEI_JOB_CONTROLLER_ENABLED=0).")
    alive = [row for row in rows if not _late(row)]
    if alive:
        return _ok(f"{len(alive)} consumed or echoed something {min(row.age_s for row in alive):.0f} s ago.")
    return _bad("No controller is consuming: jobs stay where they are. Start one: hodei controller")


def _clock(rows: list[Row]) -> dict[str, Any]:
    if not rows:
        return _bad("No clock has run yet: nothing is repaired. Start one: hodei beat")
    late = [row for row in rows if _late(row)]
    if late:
        words = ", ".join(f"{row.name} ({row.age_s:.0f} s)" for row in late)
        return _bad(f"These loops have not progressed: {words}. Start a clock: hodei beat")
    return _ok(f"All {len(rows)} loops progress.")


def _door(rows: list[Row]) -> dict[str, Any]:
    if any(not _late(row) for row in rows):
        return _ok("Agents can reach worker-manager.")
    return _bad("No worker-manager is running: workers cannot connect. Start one: hodei serve worker-manager")


def _outbox(row: Row) -> dict[str, Any]:
    if row.pending and (row.oldest_s or 0) > 30:
        return _bad(f"{row.pending} events wait for the broker, the oldest for {row.oldest_s:.0f} s.")
    return _ok(f"{row.pending} events wait for the broker.")


def _log_files(platform: Platform, row: Row) -> dict[str, Any]:
    if row.waiting and row.oldest_s > EXPORTED_WITHIN_S:
        return _bad(
            f"{row.waiting} logs could not be exported to {platform.settings.log_dir} (HODEI_LOG_DIR), the oldest "
            f"{row.oldest_s:.0f} s ago. Make room there, or make it writable; until then they are read from Postgres."
        )
    return _ok("All logs of finished attempts are exported.")
