"""What agents send and get. Fields that this version does not know are ignored, as their protocol says."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

from hodei_agent.protocol import PROTOCOL_VERSION
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from hodei.api.schemas.common import Form, Out, Query

BIG = 2**63 - 1
LONGEST_TEXT = 8192


def _storable(value: Any) -> Any:
    return value.replace("\0", "\ufffd") if isinstance(value, str) else value


def _outputs(value: Any) -> Any:
    """No result is lost because of what a job hands on: what cannot be stored is left out."""
    if not isinstance(value, dict):
        return {}
    return {str(_storable(key)): _storable(text) for key, text in value.items() if isinstance(text, str)}


def _shortened(value: Any) -> Any:
    """No result is lost because of a long message: it holds what a user wrote."""
    return value[: LONGEST_TEXT - 1] + "…" if isinstance(value, str) and len(value) > LONGEST_TEXT else value


AgentText = Annotated[str, Field(max_length=LONGEST_TEXT), BeforeValidator(_storable)]
Reason = Annotated[AgentText, BeforeValidator(_shortened)]
Outputs = Annotated[dict[str, str], BeforeValidator(_outputs)]
Count = Annotated[int, Field(ge=0, le=BIG)]
Fence = Annotated[int, Field(ge=0, le=2**31 - 1)]
Amount = Annotated[float, Field(ge=0)]


class AgentIn(BaseModel):
    """What an agent sends: typed strictly, open for a newer agent's fields."""

    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)


class Registration(AgentIn):
    """An agent's first call."""

    worker_id: UUID
    protocol: int = Field(ge=1, le=1_000_000, examples=[1], json_schema_extra={"maximum": PROTOCOL_VERSION})
    agent_version: AgentText
    session_token: Annotated[
        str, Form(r"^[A-Za-z0-9_-]{43}$", "should be 256 bits in Base64 for URLs, without padding")
    ] = Field(json_schema_extra={"writeOnly": True})
    hostname: AgentText = ""
    pid: Count = 0
    boot_id: AgentText | None = None
    instance: AgentText | None = Field(
        None,
        description="Another one for each process: a self-hosted worker's agent is started again and again.",
    )
    python: AgentText = ""
    shells: list[AgentText] = Field([], max_length=16)
    cgroup: int | None = Field(None, ge=0, le=2)


class LogLimits(Out):
    """How much log the agent may keep and send."""

    spool_bytes: int
    max_bytes: int


class Registered(Out):
    """What the agent has to keep to."""

    worker_id: UUID
    heartbeat_interval_s: float
    lease_s: float
    poll_s: float
    max_jobs: int
    log: LogLimits


class InboxQuery(Query):
    """From where on, and how long to wait."""

    after: int = Field(0, ge=0, le=2**62)
    wait_s: float = Field(0.0, ge=0, le=60)


class Message(Out):
    """A message to the agent."""

    seq: int
    kind: Literal["run", "cancel", "drain", "shutdown"]


class Inbox(Out):
    """Messages above ``after``, in order."""

    messages: list[Message]


class Accepting(AgentIn):
    """The attempt that is meant."""

    fence: Fence


class Started(AgentIn):
    """The job's process is there."""

    fence: Fence
    pid: Count
    at: Count = Field(description="Microseconds since the epoch.")


class FramesQuery(Query):
    """The attempt that is meant."""

    fence: int = Field(ge=0, le=2**31 - 1)


class Acknowledged(Out):
    """The highest frame up to which the platform has all of them, and how many entries and bytes of output these hold."""

    acknowledged: int
    entries: int
    bytes: int


class Outcome(StrEnum):
    """How an attempt ended."""

    EXITED = "exited"
    SIGNALLED = "signalled"
    OUT_OF_MEMORY = "out_of_memory"
    NOT_STARTED = "not_started"
    TIMEOUT = "timeout"
    IDLE_TIMEOUT = "idle_timeout"
    CANCELLED = "cancelled"
    WORKER_STOPPED = "worker_stopped"


class Result(AgentIn):
    """How the attempt ended, sent after its last frame was acknowledged."""

    fence: Fence
    outcome: Outcome
    exit_code: int | None = Field(None, ge=-255, le=255)
    signal: int | None = Field(None, ge=0, le=255)
    error_code: Annotated[str, Form(r"^ERR_[0-9]{4}$", "should be a code such as ERR_1016")] | None = None
    error_message: Reason | None = None
    started_at: Count | None = None
    finished_at: Count | None = None
    last_frame: Count
    log_entries: Count = 0
    log_bytes: Count = 0
    dropped_entries: Count = 0
    dropped_bytes: Count = 0
    lost_bytes: Count | None = None
    truncated: bool = False
    usage: dict[AgentText, Amount | None] = {}
    outputs: Outputs = {}
    outputs_problem: Reason | None = None


class Beating(AgentIn):
    """An execution that the agent has."""

    id: UUID
    fence: Fence


class Heartbeat(AgentIn):
    """That the agent lives, and what its cgroup uses."""

    executions: list[Beating] = Field([], max_length=1000)
    cpu_s: Amount | None = None
    cpu_fraction: Amount | None = None
    memory_bytes: Count | None = None
    memory_limit_bytes: Count | None = None
    spool_bytes: Count = 0


class Lease(Out):
    """How long the agent may go on, and what it must end."""

    lease_s: float
    stale: list[UUID]


class Goodbye(AgentIn):
    """Why the agent leaves."""

    reason: Literal["done", "sigterm", "drained", "idle"]


class Done(Out):
    """It is written down."""
