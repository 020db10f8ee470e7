"""Identifiers: time-ordered for rows, derived for what must not be made twice."""

from __future__ import annotations

import os
import time
from uuid import UUID, uuid5

NAMESPACE = UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")
DOCKER_PROVIDER_ID = UUID("11111111-1111-1111-1111-111111111111")
KUBERNETES_PROVIDER_ID = UUID("22222222-2222-2222-2222-222222222222")
PROCESS_PROVIDER_ID = UUID("33333333-3333-3333-3333-333333333333")
SELF_HOSTED_PROVIDER_ID = UUID("44444444-4444-4444-4444-444444444444")


def new_id() -> UUID:
    """A UUID of version 7 (RFC 9562): milliseconds first, so that neighbours in time are neighbours in an index."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds << 80) | int.from_bytes(os.urandom(10), "big")
    value = (value & ~(0xF << 76)) | (0x7 << 76)
    value = (value & ~(0x3 << 62)) | (0x2 << 62)
    return UUID(int=value)


def saga_id(saga_type: str, subject: UUID, attempt: int, attempt_try: int = 0) -> UUID:
    """The id of the saga of this type for this try of this attempt: a trigger that comes twice names the same."""
    return uuid5(NAMESPACE, f"hodei:{saga_type}:{subject}:{attempt}:{attempt_try}")


def worker_id(job_id: UUID, attempt: int, attempt_try: int) -> UUID:
    """The id of the worker made for this try of this attempt of a job."""
    return uuid5(NAMESPACE, f"hodei:worker:{job_id}:{attempt}:{attempt_try}")


def execution_id(job_id: UUID, attempt: int) -> UUID:
    """The id of this attempt of a job: it can be named before the attempt begins."""
    return uuid5(NAMESPACE, f"hodei:execution:{job_id}:{attempt}")
