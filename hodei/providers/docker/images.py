"""What the host knows of an image, remembered for a few seconds."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

from docker.errors import APIError

from hodei.providers.contract import ImageMissing
from hodei.providers.docker import failures
from hodei.providers.docker.container import AGENT_VERSION_LABEL
from hodei.providers.docker.engine import Engine, status_of

REMEMBERED_S = 10.0


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """``has_agent``: the agent is in it and is its entry point; ``user``: its own, empty for root."""

    has_agent: bool
    user: str


class Images:
    """The images of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: dict[str, tuple[float, ImageFacts]] = {}
        self._lock = threading.Lock()

    def facts(self, image: str) -> ImageFacts:
        """Look at the image. Raises ImageMissing when it is not on the host."""
        with self._lock:
            at, known = self._known.get(image, (0.0, None))
        if known is not None and time.monotonic() - at < REMEMBERED_S:
            return known
        try:
            found = self._engine.call(lambda client: client.inspect_image(image))
        except APIError as error:
            if status_of(error) != 404:
                raise
            raise ImageMissing(failures.missing(image), image=image) from error
        return self.learn(image, found)

    def learn(self, image: str, found: dict[str, Any]) -> ImageFacts:
        """Remember what ``GET /images/{name}/json`` answered."""
        config = found.get("Config") or {}
        facts = ImageFacts(
            has_agent=AGENT_VERSION_LABEL in (config.get("Labels") or {}), user=config.get("User") or ""
        )
        with self._lock:
            self._known[image] = (time.monotonic(), facts)
        return facts

    def forget(self, image: str) -> None:
        with self._lock:
            self._known.pop(image, None)
