from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.core import Core


@pytest.fixture
def core(database_url: str, tmp_path: Path) -> Iterator[Core]:
    """A platform whose messages and providers are in the test's hands."""
    opened = Core(database_url, tmp_path)
    yield opened
    opened.close()
