"""What every pod of the node shares."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from support.k8s_stand_in.engine import Engine
from support.k8s_stand_in.node import NodeLife
from support.k8s_stand_in.store import Store


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """``folder`` holds the pods' volumes; ``address`` is this machine's as pods see it; ``label`` marks our containers.

    After ``pull_back_off_s`` a failed pull is shown as ``ImagePullBackOff``, with its cause when ``back_off_words``.
    """

    store: Store
    node: NodeLife
    engine: Engine
    folder: Path
    address: str
    label: str
    pull_back_off_s: float
    back_off_words: bool
