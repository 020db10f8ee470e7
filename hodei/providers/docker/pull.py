"""Pulling an image: the progress is read, and a pull that makes none for too long is given up."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from typing import Any

import docker
from docker.auth import get_config_header, resolve_repository_name
from docker.errors import APIError
from docker.utils import parse_repository_tag

from hodei.domain.causes import Failure
from hodei.providers.contract import ProviderError
from hodei.providers.docker import failures
from hodei.providers.docker.config import DockerConfig
from hodei.providers.docker.engine import Engine, words_of


def pull(engine: Engine, image: str, config: DockerConfig) -> None:
    """Pull the image. Raises ProviderError with the registry's own words.

    Gives up when nothing changes for ``pull_stall_s``, and in any case after ``pull_timeout_s``: ERR_3003.
    docker-py's own `pull` reads without a time-out, so the request is made here.
    """
    try:
        with engine.stream(config.pull_stall_s) as client:
            response = _request(client, image)
            try:
                watch(_messages(response.iter_lines()), image=image, config=config)
            finally:
                response.close()
    except APIError as error:
        failure = failures.pull_failed(words_of(error), image=image)
        raise ProviderError(failure, transient=failure.is_infrastructure) from error
    except ProviderError as error:
        if error.failure.code == "ERR_5006":
            raise _stalled(image, config.pull_stall_s) from error
        raise


def watch(messages: Iterable[dict[str, Any]], *, image: str, config: DockerConfig) -> None:
    """Read the progress to its end. Raises ProviderError for an error in it, and when it stalls."""
    started = changed = time.monotonic()
    seen: dict[str, Any] = {}
    for message in messages:
        if "error" in message:
            words = (message.get("errorDetail") or {}).get("message") or message["error"]
            failure = failures.pull_failed(" ".join(str(words).split()), image=image)
            raise ProviderError(failure, transient=failure.is_infrastructure)
        now = time.monotonic()
        layer = str(message.get("id") or "")
        progress = (message.get("status"), (message.get("progressDetail") or {}).get("current"))
        if seen.get(layer) != progress:
            seen[layer] = progress
            changed = now
        if now - changed > config.pull_stall_s:
            raise _stalled(image, config.pull_stall_s)
        if now - started > config.pull_timeout_s:
            raise _stalled(image, config.pull_timeout_s, "was not complete")


def _request(client: docker.APIClient, image: str) -> Any:
    repository, tag = parse_repository_tag(image)
    registry, _ = resolve_repository_name(repository)
    header = get_config_header(client, registry)
    response = client.post(
        f"{client.base_url}/v{client.api_version}/images/create",
        params={"fromImage": repository, "tag": tag or "latest"},
        headers={"X-Registry-Auth": header} if header else {},
        stream=True,
        timeout=client.timeout,
    )
    getattr(client, "_raise_for_status")(response)  # noqa: B009
    return response


def _messages(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    for line in lines:
        if line.strip():
            yield json.loads(line)


def _stalled(image: str, limit_s: float, what: str = "made no progress") -> ProviderError:
    message = (
        f"The pull of {image} {what} within {limit_s:g} s; check that the Docker host reaches the registry."
    )
    return ProviderError(Failure(code="ERR_3003", message=message), transient=True)
