"""Images, as the kubelet sees them: those that the local engine has are there, and no other can be had."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from support.k8s_stand_in.engine import Engine

_NAME = re.compile(
    r"^(?:(?P<host>[A-Za-z0-9.-]+(?::\d+)?)/)?[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*"
    r"(?::[\w][\w.-]{0,127})?(?:@sha256:[0-9a-f]{64})?$"
)


@dataclass(frozen=True)
class PullFailure:
    """Why an image is not there: ``reason`` and ``message`` of a waiting container."""

    reason: str
    message: str


def find(engine: Engine, image: str, policy: str) -> dict[str, Any] | PullFailure:
    """What the engine knows of the image, or why it cannot be had. There is no registry: ``Always`` never succeeds."""
    if not _NAME.match(image):
        words = f'Failed to apply default image tag "{image}": couldn\'t parse image name "{image}": invalid reference format'
        return PullFailure("InvalidImageName", words)
    found = None if policy == "Always" else engine.image(image)
    if found is not None:
        return found
    if policy == "Never":
        words = f'Container image "{image}" is not present with pull policy of Never'
        return PullFailure("ErrImageNeverPull", words)
    return PullFailure("ErrImagePull", _words(image))


def _words(image: str) -> str:
    """As containerd says it through the kubelet."""
    host, slash, rest = image.partition("/")
    unpacked = f'failed to pull and unpack image "{image}": failed to resolve reference "{image}"'
    if not slash or not (set(host) & {".", ":"} or host == "localhost"):
        return (
            f"{unpacked}: pull access denied, repository does not exist or may require authorization: server message: "
            "insufficient_scope: authorization failed"
        )
    name, _, tag = rest.partition(":")
    address = host if ":" in host else f"{host}:443"
    return (
        f'{unpacked}: failed to do request: Head "https://{host}/v2/{name}/manifests/{tag or "latest"}": '
        f"dial tcp {address}: connect: connection refused"
    )
