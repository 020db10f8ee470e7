"""The key that a platform makes for itself."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hodei.errors import ConfigurationError
from hodei.secret_key import own_secret_key


def test_processes_that_start_at_the_same_time_have_the_same_whole_key(tmp_path: Path) -> None:
    for turn in range(30):
        folder = tmp_path / str(turn)

        with ThreadPoolExecutor(8) as pool:
            keys = set(pool.map(own_secret_key, [folder] * 8))

        assert len(keys) == 1 and len(keys.pop()) >= 32
        assert [path.name for path in folder.iterdir()] == ["secret.key"]
        assert stat.S_IMODE((folder / "secret.key").stat().st_mode) == 0o600


def test_a_folder_that_cannot_be_made_is_said_with_the_variable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(ConfigurationError, match="HODEI_SECRET_KEY"):
        own_secret_key(tmp_path / "file" / "data")
