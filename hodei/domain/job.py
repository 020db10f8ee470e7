"""What a job is asked to be (:class:`JobSpec`), independent of how it was submitted or where it runs."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

QUEUE_S = 86_400.0
PROVISION_S = 600.0
START_S = 60.0
CANCEL_S = 60.0
GRACE_S = 10.0
LIFETIME_MARGIN_S = 900.0
"""For bringing the log and the result to a platform that was away."""
INFRASTRUCTURE_RETRIES = 3
MAX_ARGUMENT_BYTES = 131_071
"""Linux takes no longer argument or variable (MAX_ARG_STRLEN, with its NUL)."""


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """How long each part of a job's life may take, in seconds. ``idle_s`` None: silence is allowed for ever."""

    queue_s: float = QUEUE_S
    provision_s: float = PROVISION_S
    start_s: float = START_S
    idle_s: float | None = None
    cancel_s: float = CANCEL_S

    def to_json(self) -> dict[str, Any]:
        """Its part of the document."""
        return dict(vars(self))


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """A job's definition.

    Exactly one of ``command`` and ``script`` is set, or neither for a definition that is held. ``args`` None: the
    command is a shell line; a list: the command is executed directly with it. ``cpu`` is in cores, ``memory_bytes`` in
    bytes, ``provider`` a provider's name or ``auto``; ``required_labels`` are those that the provider must have.
    """

    command: str | None = None
    script: str | None = None
    args: tuple[str, ...] | None = None
    image: str | None = None
    env: dict[str, str] = field(default_factory=dict)
    secret_names: tuple[str, ...] = ()
    provider: str = "auto"
    required_labels: dict[str, str] = field(default_factory=dict)
    cpu: float | None = None
    memory_bytes: int | None = None
    timeout_s: float | None = None
    grace_s: float = GRACE_S
    retries: int = 0
    retry_on: tuple[int, ...] = ()
    timeouts: Timeouts = field(default_factory=Timeouts)

    @property
    def is_held(self) -> bool:
        """True for a definition without anything to run: it stays outside the queue."""
        return self.command is None and self.script is None

    @property
    def lifetime_s(self) -> float | None:
        """After so long an attempt's worker has no business any more, whoever was away meanwhile; None without a time-out."""
        if self.timeout_s is None:
            return None
        return (
            self.timeouts.provision_s
            + self.timeouts.start_s
            + self.timeout_s
            + self.grace_s
            + LIFETIME_MARGIN_S
        )

    def to_json(self) -> dict[str, Any]:
        """The document stored in ``jobs.spec``."""
        return vars(self) | {"timeouts": self.timeouts.to_json()}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> JobSpec:
        """Read a stored document; fields that this version does not know are ignored."""
        values = {name: value for name, value in document.items() if name in _SPEC_FIELDS}
        for name in ("args", "secret_names", "retry_on"):
            if values.get(name) is not None:
                values[name] = tuple(values[name])
        values["timeouts"] = Timeouts(
            **{name: value for name, value in values.get("timeouts", {}).items() if name in _TIMEOUTS_FIELDS}
        )
        return cls(**values)


_SPEC_FIELDS = frozenset(item.name for item in fields(JobSpec))
_TIMEOUTS_FIELDS = frozenset(item.name for item in fields(Timeouts))


def assignment_command(spec: JobSpec) -> dict[str, Any]:
    """How the agent is told what to start: exactly one of ``shell``, ``script`` and ``argv`` is set."""
    if spec.script is not None:
        return {"shell": None, "script": spec.script, "argv": None, "args": list(spec.args or ())}
    if spec.args is not None:
        return {"shell": None, "script": None, "argv": [spec.command, *spec.args], "args": []}
    return {"shell": spec.command, "script": None, "argv": None, "args": []}
