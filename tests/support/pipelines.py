"""Pipelines by the front door."""

from __future__ import annotations

from uuid import uuid4

from hodei.client.client import HodeiClient


def plain_pipeline(client: HodeiClient) -> str:
    """The id of a pipeline of the plain form, to which jobs may be attached."""
    return client.create_pipeline({"name": f"plain-{uuid4().hex[:8]}"}).id
