"""The secret key that a platform makes for itself where none is set, kept in its data folder."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from pathlib import Path

from hodei.errors import ConfigurationError


def own_secret_key(folder: Path) -> str:
    """The key in ``folder``; made once, readable by its owner alone, however many processes start at the same time there.

    Raises ConfigurationError where none can be kept.
    """
    path = folder / "secret.key"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            _write_once(path, secrets.token_urlsafe(32))
        return path.read_text().strip()
    except OSError as error:
        raise ConfigurationError(
            f"There is no HODEI_SECRET_KEY, and none can be kept in {folder} ({error.strerror}). Set it.",
            field="HODEI_SECRET_KEY",
        ) from error


def _write_once(path: Path, text: str) -> None:
    """Make the file unless another process was quicker; it is never there without its content."""
    fd, unfinished = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(fd, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(fd)
        with contextlib.suppress(FileExistsError):
            os.link(unfinished, path)
    finally:
        Path(unfinished).unlink()
