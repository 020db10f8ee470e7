"""Pipelines, their runs, and the graph of each run."""

from alembic import op

from hodei.domain import pipeline

revision = "0006"
down_revision = "0005"


def one_of(column: str, enum: type) -> str:
    """The CHECK that keeps a column to the words of its enum."""
    words = ", ".join(f"'{word.value}'" for word in enum)
    return f"CHECK ({column} IN ({words}))"


JOBS = """
ALTER TABLE public.jobs ADD COLUMN pipeline_run_id uuid, ADD COLUMN pipeline_node text;
"""

PIPELINES = f"""
CREATE TABLE hodei.pipelines (
    id             uuid PRIMARY KEY,
    name           text NOT NULL,
    description    text NOT NULL DEFAULT '',
    state          text NOT NULL CONSTRAINT pipelines_state_check {one_of("state", pipeline.PipelineState)},
    definition     jsonb,
    version        integer NOT NULL DEFAULT 1,
    runs           integer NOT NULL DEFAULT 0,
    created_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_event_at  timestamptz NOT NULL DEFAULT '-infinity',
    CONSTRAINT pipelines_one_of_a_name UNIQUE (name)
);
CREATE INDEX pipelines_newest ON hodei.pipelines (created_at DESC, id DESC);

CREATE TABLE hodei.pipeline_runs (
    id                   uuid PRIMARY KEY,
    pipeline_id          uuid NOT NULL REFERENCES hodei.pipelines ON DELETE CASCADE,
    number               integer NOT NULL,
    version              integer NOT NULL,
    state                text NOT NULL CONSTRAINT pipeline_runs_state_check {one_of("state", pipeline.RunState)},
    params               jsonb NOT NULL DEFAULT '{{}}',
    max_parallel         integer CHECK (max_parallel > 0),
    nodes                integer NOT NULL CHECK (nodes > 0),
    resumed              integer NOT NULL DEFAULT 0,
    cancel_requested_at  timestamptz,
    created_at           timestamptz NOT NULL DEFAULT clock_timestamp(),
    completed_at         timestamptz,
    last_event_at        timestamptz NOT NULL DEFAULT '-infinity',
    UNIQUE (pipeline_id, number),
    CHECK ((state = 'RUNNING') = (completed_at IS NULL))
);
CREATE INDEX pipeline_runs_newest ON hodei.pipeline_runs (pipeline_id, created_at DESC, id DESC);
CREATE INDEX pipeline_runs_open ON hodei.pipeline_runs (id) WHERE state = 'RUNNING';

CREATE TABLE hodei.pipeline_run_jobs (
    run_id    uuid NOT NULL REFERENCES hodei.pipeline_runs ON DELETE CASCADE,
    key       text NOT NULL,
    template  jsonb NOT NULL,
    PRIMARY KEY (run_id, key)
);

CREATE TABLE hodei.pipeline_nodes (
    run_id        uuid NOT NULL REFERENCES hodei.pipeline_runs ON DELETE CASCADE,
    number        integer NOT NULL,
    key           text NOT NULL,
    job_key       text NOT NULL,
    condition     text NOT NULL CHECK (condition IN ({", ".join(f"'{word.value}'" for word in pipeline.When)})),
    matrix        jsonb NOT NULL DEFAULT '{{}}',
    state         text NOT NULL CONSTRAINT pipeline_nodes_state_check {one_of("state", pipeline.NodeState)},
    nth_try       integer NOT NULL DEFAULT 1,
    open_needs    integer NOT NULL DEFAULT 0 CHECK (open_needs >= 0),
    failed_needs  integer NOT NULL DEFAULT 0,
    unsuccessful_needs integer NOT NULL DEFAULT 0,
    job_id        uuid,
    outputs       jsonb NOT NULL DEFAULT '{{}}',
    reason        text,
    ended_at      timestamptz,
    PRIMARY KEY (run_id, number),
    UNIQUE (run_id, key)
);
CREATE INDEX pipeline_nodes_open ON hodei.pipeline_nodes (run_id, state, number)
 WHERE state IN ('WAITING', 'READY', 'SUBMITTED');
CREATE INDEX pipeline_nodes_of_job ON hodei.pipeline_nodes (run_id, job_key);

CREATE TABLE hodei.pipeline_edges (
    run_id  uuid NOT NULL REFERENCES hodei.pipeline_runs ON DELETE CASCADE,
    needed  integer NOT NULL,
    by      integer NOT NULL,
    PRIMARY KEY (run_id, needed, by)
);
CREATE INDEX pipeline_edges_of_node ON hodei.pipeline_edges (run_id, by);
"""


def upgrade() -> None:
    op.execute(JOBS)
    op.execute(PIPELINES)
