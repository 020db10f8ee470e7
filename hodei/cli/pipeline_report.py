"""A run of a pipeline in words: all of it, or what changes as it goes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from hodei.cli import output
from hodei.cli.output import lasted, moment, visible

if TYPE_CHECKING:
    from hodei.client.pipelines import PipelineRun, RunNode

COLOURS = {
    "succeeded": "32", "failed": "31", "running": "36", "cancelled": "33", "skipped": "2", "waiting": "2",
}  # fmt: skip
QUIET = frozenset({"waiting", "ready", "submitted", "assigned", "scheduled"})
"""Not worth a line of their own as a run goes."""
ORDER = ("succeeded", "failed", "cancelled", "skipped", "submitted", "ready", "waiting")


def status_line(run: PipelineRun) -> str:
    counts = ", ".join(f"{run.counts[state]} {state}" for state in ORDER if run.counts.get(state))
    return f"Status: {visible(run.status.upper())} ({counts})"


def lines(run: PipelineRun) -> Iterator[str]:
    """What ``hodei pipeline status`` shows above the nodes."""
    yield f"Run: {visible(run.id)}"
    yield f"Pipeline: {visible(run.pipeline_name)} (run {run.number}, version {run.version})"
    yield status_line(run)
    for name, value in run.params.items():
        yield f"Parameter {visible(name)}: {visible(value)}"
    if run.resumed:
        yield f"Resumed: {run.resumed} times"
    if run.cancel_requested_at and not run.has_ended:
        yield f"Cancel asked for: {moment(run.cancel_requested_at)}"
    yield f"Started: {moment(run.created_at)}"
    if run.completed_at:
        yield f"Completed: {moment(run.completed_at)} (after {lasted(run.created_at, run.completed_at)})"


def put_nodes(nodes: list[RunNode]) -> None:
    """A table of the nodes on stdout."""
    output.put_table(
        ("NODE", "STATUS", "ATTEMPTS", "EXIT", "TOOK", "JOB", "WHY"),
        (
            (
                node.key,
                node.status.upper(),
                node.attempts or None,
                node.exit_code,
                lasted(node.started_at, node.ended_at),
                node.job_id,
                why(node),
            )
            for node in nodes
        ),
    )


def why(node: RunNode) -> str | None:
    """Why it is as it is, if that needs a word."""
    return node.reason or (node.error.message if node.error else None)


class NodeLines:
    """Says a line on stderr for each node that has come somewhere; in colours where somebody looks."""

    def __init__(self) -> None:
        self._shown: dict[str, str] = {}
        self._coloured = sys.stderr.isatty() and "NO_COLOR" not in os.environ

    def show(self, node: RunNode) -> None:
        before, self._shown[node.key] = self._shown.get(node.key), node.status
        if node.status == before or node.status in QUIET:
            return
        if node.status == "pending" and before not in (None, *QUIET):
            return self._say(node, "pending again")
        self._say(node, node.status)

    def _say(self, node: RunNode, word: str) -> None:
        parts = [word]
        if node.status in ("succeeded", "failed", "cancelled") and node.started_at:
            parts.append(f"after {lasted(node.started_at, node.ended_at)}")
        if node.attempts > 1:
            parts.append(f"attempt {node.attempts}")
        reason = why(node)
        if reason and node.status not in ("pending", "running"):
            parts.append(visible(reason))
        elif node.status == "pending" and node.job_id:
            parts.append(f"job {visible(node.job_id)}")
        status = f"{parts[0]:<10}"
        colour = COLOURS.get(node.status)
        if self._coloured and colour:
            status = f"\x1b[{colour}m{status}\x1b[0m"
        rest = f" {'; '.join(parts[1:])}" if parts[1:] else ""
        output.say(f"{status} {visible(node.key)}{rest}")
