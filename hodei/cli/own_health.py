"""``hodei controller --check`` and ``hodei beat --check``: what a container's health check asks of a process without HTTP."""

from __future__ import annotations

import socket

from hodei.errors import DatabaseUnavailable
from hodei.services.health import check_own
from hodei.storage.database import Database


def look(database_url: str, kind: str) -> tuple[bool, str]:
    """Whether the process of this kind on this host is well, and a sentence. It is not when Postgres is away."""
    database = Database(database_url, pool_size=1, application_name=f"hodei {kind} --check")
    try:
        with database.glance() as tx:
            found = check_own(tx.rows("loops"), kind, socket.gethostname())
    except DatabaseUnavailable as error:
        return False, error.message
    finally:
        database.close()
    return bool(found["ok"]), str(found["message"])
