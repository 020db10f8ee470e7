"""The providers that are configured, opened once per process when first asked for, and again when their row changes."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from uuid import UUID

from hodei.domain.causes import Failure
from hodei.providers.contract import Provider, ProviderError
from hodei.providers.registry import build_provider
from hodei.settings import Settings
from hodei.storage.database import Database
from hodei.storage.transaction import Row

TRUSTED_FOR_S = 5.0


class ConfiguredProviders:
    """Opens providers from their rows. Safe to share between threads."""

    def __init__(self, settings: Settings, database: Database, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._settings = settings
        self._database = database
        self._lock = threading.Lock()
        self._rows: dict[UUID, Row] = {}
        self._read_at = float("-inf")
        self._open: dict[UUID, tuple[dict, Provider]] = {}

    def ids(self) -> list[UUID]:
        """All that are configured."""
        return list(self._configured())

    def get(self, provider_id: UUID) -> Provider:
        """The provider. Raises ProviderError when there is none, or when its configuration cannot be used."""
        row = self._configured().get(provider_id)
        if row is None:
            self.refresh()  # it may have been added since they were read
            row = self._configured().get(provider_id)
        if row is None:
            raise ProviderError(Failure(code="ERR_4001", message=f"There is no provider {provider_id}."))
        with self._lock:
            opened = self._open.get(provider_id)
            if opened is not None and opened[0] == row.config:
                return opened[1]
            provider = build_provider(
                provider_id=row.id,
                provider_type=row.provider_type,
                config=row.config,
                settings=self._settings,
                data_dir=self._data_dir,
            )
            self._open[provider_id] = (row.config, provider)
        if opened is not None:
            opened[1].close()
        return provider

    def refresh(self) -> None:
        """They were changed: look at their rows before the next answer."""
        self._read_at = float("-inf")

    def _configured(self) -> dict[UUID, Row]:
        with self._lock:
            if time.monotonic() - self._read_at < TRUSTED_FOR_S:
                return self._rows
        with self._database.glance() as tx:
            rows = {row.id: row for row in tx.rows("provider_list")}
        with self._lock:
            self._rows, self._read_at = rows, time.monotonic()
        return rows

    def close(self) -> None:
        with self._lock:
            opened, self._open = list(self._open.values()), {}
        for _, provider in opened:
            provider.close()
