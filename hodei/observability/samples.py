"""The platform's numbers between where they are read and where they are shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class Sample(NamedTuple):
    """A value of a gauge or counter."""

    name: str
    labels: tuple[str, ...]
    value: float


class Bucket(NamedTuple):
    """How many observations of a histogram were above the bucket before and not above ``le``, and their sum."""

    name: str
    labels: tuple[str, ...]
    le: float
    times: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Figures:
    """All of them, as they were at one moment."""

    samples: list[Sample] = field(default_factory=list)
    buckets: list[Bucket] = field(default_factory=list)
