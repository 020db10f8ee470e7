"""Self-hosted workers: machines whose agent a person starts. Nothing makes or ends them but that person."""

from __future__ import annotations

SELF_HOSTED = "self-hosted"
"""Their type of provider, and the name of the one provider that they all belong to."""
TYPE_LABEL = "type"
"""The label by which a job asks for them: ``required_labels: {"type": "rust"}``."""
TOKEN_PREFIX = "hsw"


def worker_token(worker_id_hex: str, secret: str) -> str:
    """The token that a person hands to the agent: it says which worker it is for, so that nothing else has to be copied."""
    return f"{TOKEN_PREFIX}_{worker_id_hex}_{secret}"
