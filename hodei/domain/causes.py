"""Why an attempt ended: the codes of the contract (spec §5), each with a severity and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """Whose the cause is: only INFRASTRUCTURE and CRITICAL ones use the infrastructure's own retry budget."""

    USER = "USER"
    INFRASTRUCTURE = "INFRASTRUCTURE"
    CRITICAL = "CRITICAL"


@dataclass(frozen=True, kw_only=True)
class Cause:
    """A kind of end: its code, what it is called, whose it is, what a person can do."""

    code: str
    title: str
    severity: Severity
    actions: tuple[str, ...]


def _cause(number: int, title: str, severity: Severity, *actions: str) -> Cause:
    return Cause(code=f"ERR_{number}", title=title, severity=severity, actions=actions)


_U, _I, _C = Severity.USER, Severity.INFRASTRUCTURE, Severity.CRITICAL
_LOGS = "Read the job's log: hodei job logs ID"
_HEALTH = "Look at the provider: hodei provider health"
_WHY = "Ask why: hodei job why ID"
_AGAIN = "Try it again: hodei job retry ID"

CAUSES: dict[str, Cause] = {
    cause.code: cause
    for cause in (
        _cause(
            1001, "command not found", _U, "Check the spelling and that the image holds the program.", _LOGS
        ),
        _cause(1002, "permission denied", _U, "Make the file executable, or run it through its interpreter."),
        _cause(1003, "file not found", _U, "Check the paths that the command names.", _LOGS),
        _cause(1004, "the process could not be started", _U, "Check the command and the image.", _LOGS),
        _cause(1005, "run time-out", _U, "Raise --timeout, or make the job shorter.", _LOGS, _AGAIN),
        _cause(1006, "ended by a signal", _U, "Look for what sent the signal.", _LOGS, _AGAIN),
        _cause(1007, "non-zero exit code", _U, _LOGS, _AGAIN),
        _cause(1008, "infrastructure", _I, _AGAIN, _HEALTH),
        _cause(1009, "the job's definition is not valid", _U, "Correct the definition and submit it again."),
        _cause(
            1010,
            "the worker's configuration does not fit",
            _U,
            "Use an image with Python 3.8 or later and sh.",
            _HEALTH,
        ),
        _cause(
            1011, "a secret could not be handed over", _C, "Check HODEI_SECRET_KEY; submit the job again."
        ),
        _cause(1012, "input or output error", _I, "Check the disk of the worker's host.", _AGAIN),
        _cause(1013, "out of memory", _U, "Raise --memory, or make the job use less."),
        _cause(1014, "queue time-out", _I, "Give the provider more room, or raise timeouts.queue_s.", _AGAIN),
        _cause(
            1015,
            "no output for too long",
            _U,
            "Raise timeouts.idle_s, or let the job print progress.",
            _LOGS,
            _AGAIN,
        ),
        _cause(1016, "the log is incomplete", _I, "What is there can be read: hodei job logs ID"),
        _cause(2001, "the worker was not ready", _I, _AGAIN, _HEALTH),
        _cause(2002, "the worker did not take the job in time", _I, _AGAIN, _HEALTH),
        _cause(2003, "the worker crashed", _I, _AGAIN, _HEALTH),
        _cause(2004, "the worker's connection was closed", _I, _AGAIN, _HEALTH),
        _cause(2005, "worker and platform did not understand each other", _C, "Rebuild the worker image."),
        _cause(2006, "the worker was lost", _I, _AGAIN, _HEALTH),
        _cause(
            3001,
            "the image cannot be pulled",
            _U,
            "Check the image's name and the registry's credentials.",
            _AGAIN,
        ),
        _cause(
            3002, "not enough resources", _I, "Ask for less --cpu or --memory, or give the host more.", _AGAIN
        ),
        _cause(
            3003,
            "network",
            _I,
            "Check the network to the registry and to worker-manager (HODEI_SERVER_HOST).",
            _HEALTH,
        ),
        _cause(3004, "the provider refused our credentials", _C, _HEALTH),
        _cause(
            3005,
            "provisioning time-out",
            _I,
            "Check that workers reach worker-manager (HODEI_SERVER_HOST).",
            _HEALTH,
            _AGAIN,
        ),
        _cause(3006, "the provider is not available", _I, _HEALTH),
        _cause(3007, "internal error while provisioning", _C, _HEALTH),
        _cause(3008, "unschedulable", _U, "Ask for less --cpu or --memory, or give the cluster more."),
        _cause(3009, "evicted", _I, "Ask for the memory and disk that the job needs.", _AGAIN),
        _cause(3010, "node lost", _I, _AGAIN, _HEALTH),
        _cause(4001, "no providers", _I, "Enable one: hodei provider list"),
        _cause(4002, "no provider matches", _U, "Name a provider that exists: hodei provider list"),
        _cause(4003, "providers are overloaded", _I, "Wait, or raise max_workers.", _WHY),
        _cause(4004, "providers are unhealthy", _I, _HEALTH),
        _cause(4005, "no provider has these resources", _U, "Ask for less --cpu or --memory."),
        _cause(4006, "internal error while scheduling", _C, _WHY),
        _cause(5001, "connection to the provider lost", _I, _HEALTH),
        _cause(5002, "the provider refused our credentials", _C, _HEALTH),
        _cause(5003, "a limit of the provider was reached", _I, _HEALTH),
        _cause(5004, "not found at the provider", _I, _HEALTH),
        _cause(5005, "the provider could not make the worker", _I, _HEALTH),
        _cause(5006, "the provider did not answer in time", _I, _HEALTH),
        _cause(5007, "the provider's configuration is wrong", _U, "Correct it.", _HEALTH),
        _cause(5008, "internal error of the provider", _C, _HEALTH),
    )
}


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One concrete end: a code and the sentence that says what happened this time.

    ``code`` must be one of :data:`CAUSES`; ``message`` is one sentence for a person.
    """

    code: str
    message: str

    def __post_init__(self) -> None:
        if self.code not in CAUSES:
            raise ValueError(f"{self.code} is not a known cause")

    @property
    def cause(self) -> Cause:
        return CAUSES[self.code]

    @property
    def is_infrastructure(self) -> bool:
        """True when it was not the user's: such an attempt is paid from the infrastructure's budget."""
        return self.cause.severity is not Severity.USER
