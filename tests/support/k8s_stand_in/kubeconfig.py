"""The file by which clients find the stand-in."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import yaml

CLUSTER = "k8s-stand-in"


def write(
    path: Path, *, server: str, authority: bytes, tokens: dict[str, str], current: str, namespace: str
) -> Path:
    """A context for each account, called as it is; readable by its owner alone."""
    certificate = base64.b64encode(authority).decode()
    contexts = [
        {"name": name, "context": {"cluster": CLUSTER, "user": name, "namespace": namespace}}
        for name in tokens
    ]
    document: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": CLUSTER, "cluster": {"server": server, "certificate-authority-data": certificate}}
        ],
        "users": [{"name": name, "user": {"token": token}} for name, token in tokens.items()],
        "contexts": contexts,
        "current-context": current,
    }
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path
