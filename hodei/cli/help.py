"""How a command's help shows its example."""

from __future__ import annotations

KEEP_LINES = "\b"


def example(*lines: str) -> str:
    """The end of a command's help."""
    return "\n".join((KEEP_LINES, "Example:", *(f"  {line}" for line in lines)))
