"""What the exit code of an agent says about the end of its worker."""

from __future__ import annotations

from hodei.domain.causes import Failure

EXIT_UNAUTHORIZED = 3
EXIT_REFUSED = 4
EXIT_LEASE_LOST = 5
EXIT_NO_PYTHON = 70

_KNOWN = {
    EXIT_UNAUTHORIZED: ("ERR_2005", "The platform did not accept the worker's token, so the worker left."),
    EXIT_REFUSED: ("ERR_2005", "The worker left, because the platform refused it or its settings are wrong."),
    EXIT_LEASE_LOST: (
        "ERR_3003",
        "The worker could not reach the platform for longer than its lease, and left.",
    ),
}


def agent_exit(exit_code: int | None) -> Failure | None:
    """The failure behind an exit code; None for 0 and for a code that is not known."""
    if not exit_code:
        return None
    if exit_code in _KNOWN:
        code, message = _KNOWN[exit_code]
        return Failure(code=code, message=message)
    return Failure(code="ERR_2003", message=f"The worker's agent ended with exit code {exit_code}.")
