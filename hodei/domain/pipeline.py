"""What a pipeline's runs and their nodes may be, who moves them, and the rule by which a node starts or is skipped.

A *node* is one job of a run: a job of the definition, or one combination of its matrix. It has a job row when it was started.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID, uuid5

from hodei.domain.ids import NAMESPACE


class PipelineState(StrEnum):
    """Whether a pipeline may be run."""

    ACTIVE = "ACTIVE"  # made by create; by a change of a DISABLED one
    DISABLED = "DISABLED"  # by a change: no new run begins, those that are going go on


class RunState(StrEnum):
    """Where a run is. RUNNING until none of its nodes is open any more."""

    RUNNING = "RUNNING"  # put there by start, and by resume; left by whoever settles its last open node
    SUCCEEDED = "SUCCEEDED"  # no node FAILED or CANCELLED
    FAILED = "FAILED"  # at least one node FAILED, or its job was cancelled alone
    CANCELLED = "CANCELLED"  # a cancel of the run was asked for, and took at least one node


RUN_ENDS = frozenset({RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED})

RUN_TRANSITIONS: dict[RunState, frozenset[RunState]] = {
    RunState.RUNNING: RUN_ENDS,
    RunState.SUCCEEDED: frozenset(),
    RunState.FAILED: frozenset({RunState.RUNNING}),  # resumed by a person
    RunState.CANCELLED: frozenset({RunState.RUNNING}),
}


class NodeState(StrEnum):
    """Where a node is. All are moved by whoever holds the run's row."""

    WAITING = "WAITING"  # for its needs; put there by start and by resume
    READY = (
        "READY"  # its condition holds; left when it is submitted, which a full run (max_parallel) puts off
    )
    SUBMITTED = "SUBMITTED"  # its job is stored, in the same transaction; that job's state says how far it is
    SUCCEEDED = "SUCCEEDED"  # its job did
    FAILED = "FAILED"  # its job FAILED or ran into a TIMEOUT, or could not be made
    CANCELLED = "CANCELLED"  # its job was, or the run was before there was a job
    SKIPPED = "SKIPPED"  # its condition cannot hold


NODE_ENDS = frozenset({NodeState.SUCCEEDED, NodeState.FAILED, NodeState.CANCELLED, NodeState.SKIPPED})
NODE_OPEN = frozenset(set(NodeState) - NODE_ENDS)

NODE_TRANSITIONS: dict[NodeState, frozenset[NodeState]] = {
    NodeState.WAITING: frozenset({NodeState.READY, NodeState.SKIPPED, NodeState.CANCELLED}),
    NodeState.READY: frozenset({NodeState.SUBMITTED, NodeState.FAILED, NodeState.CANCELLED}),
    NodeState.SUBMITTED: frozenset({NodeState.SUCCEEDED, NodeState.FAILED, NodeState.CANCELLED}),
    NodeState.SUCCEEDED: frozenset(),  # what succeeded is kept when the run is resumed
    NodeState.FAILED: frozenset({NodeState.WAITING}),
    NodeState.CANCELLED: frozenset({NodeState.WAITING}),
    NodeState.SKIPPED: frozenset({NodeState.WAITING}),
}


class When(StrEnum):
    """On what its needs must have come to a node starts."""

    SUCCESS = "success"  # all of them succeeded
    FAILURE = "failure"  # all have ended, and at least one failed
    ALWAYS = "always"  # all have ended, however


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a node's needs have come to: how many have not ended, have failed, have ended without success."""

    open: int = 0
    failed: int = 0
    unsuccessful: int = 0


def verdict(when: When, needs: Needs) -> NodeState:
    """READY when the condition holds, SKIPPED when it cannot hold any more, WAITING as long as neither is known."""
    if when is When.SUCCESS and needs.unsuccessful:
        return NodeState.SKIPPED
    if needs.open:
        return NodeState.WAITING
    if when is When.FAILURE and not needs.failed:
        return NodeState.SKIPPED
    return NodeState.READY


def end_of_run(*, cancel_requested: bool, failed: int, cancelled: int) -> RunState:
    """How a run without open nodes has ended, of which so many FAILED and so many are CANCELLED."""
    if cancel_requested and cancelled:
        return RunState.CANCELLED
    return RunState.FAILED if failed or cancelled else RunState.SUCCEEDED


def node_job_id(run_id: UUID, key: str, nth_try: int) -> UUID:
    """The id of the job of this try of a node: whoever submits it, it is the same one."""
    return uuid5(NAMESPACE, f"hodei:pipeline-node:{run_id}:{key}:{nth_try}")


def secrets_owner(pipeline_id: UUID, job_key: str) -> UUID:
    """Whose the secrets of this job of a pipeline are: two jobs may call different secrets the same."""
    return uuid5(NAMESPACE, f"hodei:pipeline-secrets:{pipeline_id}:{job_key}")
