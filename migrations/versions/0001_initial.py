"""The first schema: nine tables in ``public`` for operators, everything internal in ``hodei``."""

from alembic import op

from hodei.domain import states

revision = "0001"
down_revision = None


def one_of(column: str, enum: type) -> str:
    """The CHECK that keeps a state column to the words of its enum."""
    words = ", ".join(f"'{word.value}'" for word in enum)
    return f"CHECK ({column} IN ({words}))"


PUBLIC = f"""
CREATE TABLE public.provider_configs (
    id             uuid PRIMARY KEY,
    name           text NOT NULL UNIQUE,
    provider_type  text NOT NULL CHECK (provider_type IN ('docker', 'kubernetes', 'process', 'fake', 'self-hosted')),
    status         text NOT NULL CONSTRAINT provider_configs_status_check {one_of("status", states.ProviderStatus)},
    status_reason  text,
    config         jsonb NOT NULL DEFAULT '{{}}',
    priority       integer NOT NULL DEFAULT 0,
    max_workers    integer NOT NULL CHECK (max_workers >= 0),
    places_taken   integer NOT NULL DEFAULT 0 CHECK (places_taken >= 0),
    labels         jsonb NOT NULL DEFAULT '{{}}',
    capabilities   jsonb NOT NULL DEFAULT '{{}}',
    checked_at     timestamptz,
    last_event_at  timestamptz NOT NULL DEFAULT '-infinity',
    created_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at     timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE public.jobs (
    id                    uuid PRIMARY KEY,
    name                  text NOT NULL,
    spec                  jsonb NOT NULL,
    state                 text NOT NULL CONSTRAINT jobs_state_check {one_of("state", states.JobState)},
    held                  boolean NOT NULL DEFAULT false,
    requested_provider    text NOT NULL DEFAULT 'auto',
    selected_provider_id  uuid REFERENCES public.provider_configs,
    worker_id             uuid,
    pipeline_id           uuid,
    priority              smallint NOT NULL DEFAULT 0 CHECK (priority BETWEEN 0 AND 9),
    attempts              integer NOT NULL DEFAULT 0,
    max_attempts          integer NOT NULL DEFAULT 1,
    user_retries          integer NOT NULL DEFAULT 0,
    infra_retries         integer NOT NULL DEFAULT 0,
    created_at            timestamptz NOT NULL DEFAULT clock_timestamp(),
    queued_at             timestamptz NOT NULL DEFAULT clock_timestamp(),
    due_at                timestamptz NOT NULL DEFAULT clock_timestamp(),
    state_since           timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at            timestamptz,
    completed_at          timestamptz,
    cancel_requested_at   timestamptz,
    exit_code             integer,
    result                jsonb,
    error_code            text,
    error_message         text,
    labels                jsonb NOT NULL DEFAULT '{{}}',
    correlation_id        uuid NOT NULL,
    request_id            text,
    last_event_at         timestamptz NOT NULL DEFAULT '-infinity'
);
CREATE INDEX jobs_queue ON public.jobs (requested_provider, priority DESC, queued_at, id) WHERE state = 'PENDING' AND NOT held;
CREATE INDEX jobs_open ON public.jobs (state, state_since) WHERE state IN ('PENDING', 'SCHEDULED', 'ASSIGNED', 'RUNNING');
CREATE INDEX jobs_newest ON public.jobs (created_at DESC, id DESC);
CREATE INDEX jobs_by_state ON public.jobs (state, created_at DESC, id DESC);
CREATE INDEX jobs_by_pipeline ON public.jobs (pipeline_id, created_at) WHERE pipeline_id IS NOT NULL;
CREATE INDEX jobs_by_label ON public.jobs USING gin (labels jsonb_path_ops);

CREATE TABLE public.workers (
    id                    uuid PRIMARY KEY,
    provider_id           uuid REFERENCES public.provider_configs,
    provider_type         text NOT NULL,
    provider_resource_id  text,
    state                 text NOT NULL CONSTRAINT workers_state_check {one_of("state", states.WorkerState)},
    worker_type           text,
    reserved_for          uuid,
    current_job_id        uuid,
    last_job_id           uuid,
    max_jobs              integer NOT NULL DEFAULT 1,
    holds_place           boolean NOT NULL DEFAULT false,
    provisioning_saga_id  uuid,
    image                 text,
    last_heartbeat        timestamptz,
    inbox_polled_at       timestamptz,
    registered_at         timestamptz,
    connect_deadline      timestamptz,
    agent                 jsonb NOT NULL DEFAULT '{{}}',
    usage                 jsonb NOT NULL DEFAULT '{{}}',
    inbox_seq             bigint NOT NULL DEFAULT 0,
    destroy_after         timestamptz,
    destroy_tries         integer NOT NULL DEFAULT 0,
    created_at            timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at            timestamptz NOT NULL DEFAULT clock_timestamp(),
    terminated_at         timestamptz,
    termination_reason    text,
    last_event_at         timestamptz NOT NULL DEFAULT '-infinity'
);
CREATE INDEX workers_live ON public.workers (state, provider_id) WHERE state <> 'TERMINATED';
CREATE UNIQUE INDEX workers_one_per_job ON public.workers (reserved_for) WHERE reserved_for IS NOT NULL AND state IN ('CREATING', 'CONNECTING', 'READY');
CREATE UNIQUE INDEX workers_one_job ON public.workers (current_job_id) WHERE current_job_id IS NOT NULL AND state IN ('BUSY', 'DRAINING');
CREATE INDEX workers_newest ON public.workers (created_at DESC, id DESC);

CREATE TABLE public.domain_events (
    id              uuid PRIMARY KEY,
    occurred_at     timestamptz NOT NULL,
    event_type      text NOT NULL,
    aggregate_type  text NOT NULL,
    aggregate_id    uuid NOT NULL,
    correlation_id  uuid NOT NULL,
    actor           text NOT NULL,
    payload         jsonb NOT NULL DEFAULT '{{}}',
    UNIQUE (aggregate_id, occurred_at)
);
CREATE INDEX domain_events_by_correlation ON public.domain_events (correlation_id, occurred_at);
CREATE INDEX domain_events_by_time ON public.domain_events (occurred_at, id);

CREATE TABLE public.outbox_events (
    id               uuid PRIMARY KEY,
    aggregate_type   text NOT NULL,
    aggregate_id     uuid NOT NULL,
    event_type       text NOT NULL,
    payload          jsonb NOT NULL DEFAULT '{{}}',
    idempotency_key  text NOT NULL UNIQUE,
    status           text NOT NULL DEFAULT 'PENDING' CONSTRAINT outbox_events_status_check {one_of("status", states.OutboxStatus)},
    retry_count      integer NOT NULL DEFAULT 0,
    last_error       text,
    created_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    published_at     timestamptz
);
CREATE INDEX outbox_events_pending ON public.outbox_events (created_at, id) WHERE status = 'PENDING';

CREATE TABLE public.sagas (
    id               uuid PRIMARY KEY,
    saga_type        text NOT NULL CHECK (saga_type IN
                         ('PROVISIONING', 'EXECUTION', 'RECOVERY', 'CANCELLATION', 'TIMEOUT', 'CLEANUP')),
    state            text NOT NULL CONSTRAINT sagas_state_check {one_of("state", states.SagaState)},
    subject_id       uuid NOT NULL,
    correlation_id   uuid NOT NULL,
    actor            text NOT NULL,
    error_code       text,
    error_message    text,
    metadata         jsonb NOT NULL DEFAULT '{{}}',
    version          integer NOT NULL DEFAULT 0,
    started_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    completed_at     timestamptz,
    lease_owner      text,
    lease_expires    timestamptz,
    waiting_until    timestamptz,
    nudge_after      timestamptz NOT NULL DEFAULT clock_timestamp() + interval '15 s',
    nudges           integer NOT NULL DEFAULT 0,
    last_event_at    timestamptz NOT NULL DEFAULT '-infinity'
);
CREATE INDEX sagas_open ON public.sagas (nudge_after) WHERE state IN ('PENDING', 'IN_PROGRESS', 'COMPENSATING');
CREATE INDEX sagas_by_correlation ON public.sagas (correlation_id, started_at);
CREATE INDEX sagas_newest ON public.sagas (started_at DESC, id DESC);

CREATE TABLE public.saga_steps (
    id             uuid PRIMARY KEY,
    saga_id        uuid NOT NULL REFERENCES public.sagas ON DELETE CASCADE,
    step_name      text NOT NULL,
    step_order     integer NOT NULL,
    state          text NOT NULL DEFAULT 'PENDING' CONSTRAINT saga_steps_state_check {one_of("state", states.StepState)},
    retry_count    integer NOT NULL DEFAULT 0,
    input_data     jsonb NOT NULL DEFAULT '{{}}',
    output_data    jsonb NOT NULL DEFAULT '{{}}',
    error_message  text,
    started_at     timestamptz,
    completed_at   timestamptz,
    UNIQUE (saga_id, step_order)
);

CREATE TABLE public.saga_audit_events (
    id           uuid PRIMARY KEY,
    saga_id      uuid NOT NULL REFERENCES public.sagas ON DELETE CASCADE,
    event_type   text NOT NULL,
    step_name    text,
    message      text NOT NULL,
    payload      jsonb NOT NULL DEFAULT '{{}}',
    occurred_at  timestamptz NOT NULL,
    UNIQUE (saga_id, occurred_at)
);

CREATE TABLE public.job_log_files (
    id            uuid PRIMARY KEY,
    job_id        uuid NOT NULL,
    execution_id  uuid NOT NULL UNIQUE,
    storage_uri   text NOT NULL,
    size_bytes    bigint NOT NULL,
    entry_count   bigint NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at    timestamptz NOT NULL
);
CREATE INDEX job_log_files_by_job ON public.job_log_files (job_id);
"""

INTERNAL = f"""
CREATE TABLE hodei.deployment (
    only_one    boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    id          uuid NOT NULL DEFAULT gen_random_uuid(),
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
INSERT INTO hodei.deployment DEFAULT VALUES;

CREATE TABLE hodei.executions (
    id              uuid PRIMARY KEY,
    job_id          uuid NOT NULL REFERENCES public.jobs ON DELETE CASCADE,
    attempt         integer NOT NULL,
    worker_id       uuid NOT NULL,
    saga_id         uuid,
    state           text NOT NULL CONSTRAINT executions_state_check {one_of("state", states.ExecutionState)},
    command         text,
    exit_code       integer,
    signal          integer,
    error_code      text,
    error_message   text,
    result          jsonb,
    last_frame      bigint NOT NULL DEFAULT 0,
    log_entries     bigint NOT NULL DEFAULT 0,
    log_bytes       bigint NOT NULL DEFAULT 0,
    log_complete    boolean NOT NULL DEFAULT false,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    accepted_at     timestamptz,
    started_at      timestamptz,
    reported_at     timestamptz,
    completed_at    timestamptz,
    UNIQUE (job_id, attempt)
);
CREATE UNIQUE INDEX executions_one_live ON hodei.executions (job_id) WHERE state IN ('pending', 'running');
CREATE INDEX executions_newest ON hodei.executions (created_at DESC, id DESC);
CREATE INDEX executions_by_worker ON hodei.executions (worker_id) WHERE state IN ('pending', 'running');

CREATE TABLE hodei.worker_tokens (
    token_hash    bytea PRIMARY KEY,
    worker_id     uuid NOT NULL REFERENCES public.workers ON DELETE CASCADE,
    kind          text NOT NULL CHECK (kind IN ('one_time', 'session')),
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at    timestamptz,
    used_at       timestamptz,
    session_hash  bytea
);
CREATE INDEX worker_tokens_by_worker ON hodei.worker_tokens (worker_id);

CREATE TABLE hodei.worker_messages (
    worker_id   uuid NOT NULL REFERENCES public.workers ON DELETE CASCADE,
    seq         bigint NOT NULL,
    kind        text NOT NULL CHECK (kind IN ('run', 'cancel', 'drain', 'shutdown')),
    payload     jsonb NOT NULL DEFAULT '{{}}',
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (worker_id, seq)
);

CREATE TABLE hodei.log_chunks (
    execution_id  uuid NOT NULL,
    seq           bigint NOT NULL,
    first_entry   bigint NOT NULL,
    entries       integer NOT NULL,
    plain_size    integer NOT NULL,
    codec         smallint NOT NULL,
    crc32         bigint NOT NULL,
    data          bytea NOT NULL,
    stored_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (execution_id, seq)
);
ALTER TABLE hodei.log_chunks ALTER COLUMN data SET STORAGE EXTERNAL;

CREATE TABLE hodei.secrets (
    owner_id    uuid NOT NULL,
    name        text NOT NULL,
    ciphertext  bytea NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (owner_id, name)
);

CREATE TABLE hodei.image_pulls (
    provider_id   uuid NOT NULL,
    image         text NOT NULL,
    state         text NOT NULL CHECK (state IN ('PULLING', 'PULLED', 'FAILED')),
    owner         text,
    lease_expires timestamptz,
    error_code    text,
    error_message text,
    updated_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (provider_id, image)
);

CREATE TABLE hodei.idempotency_keys (
    scope       text NOT NULL,
    key         text NOT NULL,
    body_hash   bytea NOT NULL,
    answer      jsonb,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (scope, key)
);
CREATE INDEX idempotency_keys_by_age ON hodei.idempotency_keys (created_at);

CREATE TABLE hodei.loops (
    name           text PRIMARY KEY,
    owner          text,
    lease_expires  timestamptz,
    progressed_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    interval_s     double precision NOT NULL,
    detail         jsonb NOT NULL DEFAULT '{{}}'
);
"""


def upgrade() -> None:
    op.execute(PUBLIC)
    op.execute(INTERNAL)
