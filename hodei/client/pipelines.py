"""Pipelines and their runs, as the orchestrator offers them."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any
from urllib.parse import quote

from hodei.client import following
from hodei.client.errors import NotHodei, ServerUnreachable
from hodei.client.shapes import Cause, Shape
from hodei.client.transport import Transport

PIPELINES = "/api/v1/pipelines"
RUNS = "/api/v1/runs"
PAGE = 100
SILENCE_S = 40.0
"""The server says at least every 15 s that a stream is alive."""
RUN_ENDS = frozenset({"succeeded", "failed", "cancelled"})


@dataclass(frozen=True, kw_only=True)
class Pipeline(Shape):
    """``job_count`` None: the plain form. Lists have neither ``params`` nor ``jobs``."""

    id: str
    name: str = ""
    description: str = ""
    status: str = ""
    version: int = 1
    job_count: int | None = None
    params: dict[str, dict[str, Any]] = field(default_factory=dict)
    max_parallel: int | None = None
    jobs: list[dict[str, Any]] | None = None
    created_at: str | None = None
    updated_at: str | None = None


@dataclass(frozen=True, kw_only=True)
class RunNode(Shape):
    """One job of a run; from ``pending`` to ``running`` its ``status`` is its job's."""

    key: str
    job_key: str = ""
    needs: list[str] = field(default_factory=list)
    when: str = "success"
    matrix: dict[str, str] = field(default_factory=dict)
    status: str = ""
    job_id: str | None = None
    attempts: int = 0
    exit_code: int | None = None
    outputs: dict[str, str] = field(default_factory=dict)
    reason: str | None = None
    error: Cause | None = None
    started_at: str | None = None
    ended_at: str | None = None

    @classmethod
    def nested(cls, values: dict[str, Any]) -> dict[str, Any]:
        error = values.get("error")
        return values | {"error": Cause.from_json(error) if error else None}


@dataclass(frozen=True, kw_only=True)
class PipelineRun(Shape):
    """``nodes`` is empty where the server does not send them: in lists, and in what a stream tells."""

    id: str
    pipeline_id: str = ""
    pipeline_name: str = ""
    number: int = 0
    version: int = 0
    status: str = ""
    params: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    resumed: int = 0
    cancel_requested_at: str | None = None
    created_at: str | None = None
    completed_at: str | None = None
    nodes: list[RunNode] = field(default_factory=list)

    @property
    def has_ended(self) -> bool:
        return self.status in RUN_ENDS

    @classmethod
    def nested(cls, values: dict[str, Any]) -> dict[str, Any]:
        return values | {"nodes": [RunNode.from_json(node) for node in values.get("nodes") or []]}


class PipelineCalls:
    """The part of :class:`hodei.client.client.HodeiClient` that is about pipelines."""

    def _service(self, name: str) -> Transport:
        raise NotImplementedError

    def create_pipeline(self, pipeline: Mapping[str, Any], *, idempotency_key: str | None = None) -> Pipeline:
        """Makes a pipeline; nothing runs yet. Without a key one is made."""
        key = idempotency_key or str(uuid.uuid4())
        answer = self._pipelines_at().post(PIPELINES, dict(pipeline), idempotency_key=key)
        return Pipeline.from_json(answer)

    def pipelines(self, *, limit: int | None = None, **filters: str | None) -> Iterator[Pipeline]:
        """Pipelines, newest first, page after page; ``name`` narrows them. No limit: all."""
        pages = self._pipelines_at().pages(PIPELINES, limit=min(limit or PAGE, PAGE), **filters)
        return (Pipeline.from_json(item) for item in islice(pages, limit))

    def pipeline(self, pipeline_id: str) -> Pipeline:
        return Pipeline.from_json(self._pipelines_at().get(_pipeline(pipeline_id)))

    def change_pipeline(self, pipeline_id: str, changes: Mapping[str, Any]) -> Pipeline:
        """Changes what is named; runs keep the jobs that they began with."""
        response = self._pipelines_at().send("PATCH", _pipeline(pipeline_id), body=dict(changes))
        return Pipeline.from_json(response.json())

    def delete_pipeline(self, pipeline_id: str) -> None:
        """Deletes it with its runs; the jobs that they made stay."""
        self._pipelines_at().send("DELETE", _pipeline(pipeline_id))

    def pipeline_schema(self) -> dict[str, Any]:
        """The JSON Schema of a pipeline's file."""
        return self._pipelines_at().get(f"{PIPELINES}/schema")

    def run_pipeline(
        self,
        pipeline_id: str,
        params: Mapping[str, str] | None = None,
        *,
        idempotency_key: str | None = None,
    ) -> PipelineRun:
        """Runs it. Without a key one is made, so that a repeated request cannot make two runs."""
        key = idempotency_key or str(uuid.uuid4())
        path = f"{_pipeline(pipeline_id)}/runs"
        answer = self._pipelines_at().post(path, {"params": dict(params or {})}, idempotency_key=key)
        return PipelineRun.from_json(answer)

    def pipeline_runs(
        self, pipeline_id: str, *, limit: int | None = None, **filters: str | None
    ) -> Iterator[PipelineRun]:
        """Its runs, newest first, without their nodes; ``status`` narrows them. No limit: all."""
        path = f"{_pipeline(pipeline_id)}/runs"
        pages = self._pipelines_at().pages(path, limit=min(limit or PAGE, PAGE), **filters)
        return (PipelineRun.from_json(item) for item in islice(pages, limit))

    def run(self, run_id: str, *, wait_s: float = 0.0) -> PipelineRun:
        """The run with its nodes, now or when it ends, at the latest after ``wait_s``."""
        parameters = {"wait": f"{wait_s:g}" if wait_s else None}
        answer = self._pipelines_at().send("GET", _run(run_id), parameters=parameters, wait_s=wait_s)
        return PipelineRun.from_json(answer.json())

    def wait_run(self, run_id: str, *, patience_s: float = following.PATIENCE_S) -> PipelineRun:
        """The run when it has ended. ServerUnreachable when nobody answered for ``patience_s``."""
        while True:
            asked_at = time.monotonic()
            look = partial(self.run, run_id, wait_s=following.WAIT_S)
            run = following.patiently(look, patience_s=patience_s)
            if run.has_ended:
                return run
            following.not_faster(asked_at)

    def follow_run(
        self, run_id: str, *, patience_s: float = following.PATIENCE_S
    ) -> Iterator[PipelineRun | RunNode]:
        """The run and its nodes as they are, then each again when it has changed; ends with the run that has ended.

        Over however many connections that takes: what is told again after one broke is left out.
        """
        told: dict[str, str] = {}
        failing_since: float | None = None
        while True:
            asked_at = time.monotonic()
            try:
                for event in self._stream_of_run(run_id):
                    failing_since = None
                    said = _told(event)
                    if said is None:
                        continue
                    key = said.key if isinstance(said, RunNode) else ""
                    if event.name == "end" or told.get(key) != event.data:
                        told[key] = event.data or ""
                        yield said
                    if event.name == "end":
                        return
            except ServerUnreachable:
                failing_since = failing_since or time.monotonic()
                if time.monotonic() - failing_since >= patience_s:
                    raise
            following.not_faster(asked_at)

    def _stream_of_run(self, run_id: str) -> Iterator[following.StreamEvent]:
        headers = {"Accept": "text/event-stream"}
        path = f"{_run(run_id)}/follow"
        with self._pipelines_at().stream(path, parameters={}, headers=headers, silence_s=SILENCE_S) as blocks:
            yield from following.events_in(blocks, lambda: None)

    def cancel_run(self, run_id: str) -> PipelineRun:
        """Asks for its end; it is CANCELLED when nothing of it lives any more."""
        return PipelineRun.from_json(self._pipelines_at().send("POST", f"{_run(run_id)}/cancel").json())

    def resume_run(self, run_id: str, *, idempotency_key: str | None = None) -> PipelineRun:
        """Does again what did not succeed. Without a key one is made."""
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        answer = self._pipelines_at().send("POST", f"{_run(run_id)}/resume", headers=headers)
        return PipelineRun.from_json(answer.json())

    def _pipelines_at(self) -> Transport:
        return self._service("orchestrator")


def _told(event: following.StreamEvent) -> PipelineRun | RunNode | None:
    """What the event is; None for one of a newer server, and for one that only says that the stream is alive."""
    kinds: dict[str, type[PipelineRun] | type[RunNode]] = {
        "run": PipelineRun,
        "node": RunNode,
        "end": PipelineRun,
    }
    kind = kinds.get(event.name)
    if kind is None or event.data is None:
        return None
    try:
        return kind.from_json(json.loads(event.data))
    except (ValueError, TypeError, AttributeError) as error:
        raise NotHodei("What answers is not Hodei Jobs: its events are not what a run has.") from error


def _pipeline(pipeline_id: str) -> str:
    return f"{PIPELINES}/{quote(pipeline_id, safe='')}"


def _run(run_id: str) -> str:
    return f"{RUNS}/{quote(run_id, safe='')}"
