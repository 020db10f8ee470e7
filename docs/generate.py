"""Writes the pages of the reference that follow from the code: ``python docs/generate.py``.

A test fails when what is committed differs from what this would write.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer.main

from hodei import errors
from hodei.api.schemas.pipelines_in import file_schema
from hodei.cli.main import app
from hodei.domain.causes import CAUSES
from hodei.observability.catalogue import BOUNDS_S, CATALOGUE, SHORT_S, Metric, Shown
from hodei.queue import names
from hodei.sagas.registry import SAGA_TYPES
from hodei.settings import PREFIX, Settings

REFERENCE = Path(__file__).parent / "reference"
NOTE = "<!-- Written by docs/generate.py from the code: change it there. -->\n"

MEANINGS = {
    "database_url": "Postgres 15 or later, as a URL; `postgres://` is accepted. Where it is not set, `DATABASE_URL` is used (not by `hodei demo`), else the embedded Postgres.",
    "redis_url": "Redis 6.2 or later: Celery's broker, wake-ups. Else the embedded Redis. Set both URLs or neither.",
    "orchestrator_port": "Where `orchestrator` listens: jobs, providers, events, logs.",
    "scheduler_port": "Where `scheduler` listens: schedules, queue and worker registry.",
    "worker_manager_port": "Where `worker-manager` listens: workers, executions, and the door that agents call.",
    "bind": "The address that the operators' routes listen on. Anything but loopback needs a token.",
    "server_host": "Host, host:port or URL by which workers reach `worker-manager`. When it is not set, Docker's containers use `host.docker.internal`, pods this machine's address on the way to the cluster, or in it the service of worker-manager.",
    "agent_bind": "A further address, `host` or `host:port`, on which `worker-manager` listens for agents alone, in place of those that it finds itself.",
    "worker_image": "The image of workers on Docker and Kubernetes, for jobs that name none.",
    "docker_network": "The network of workers on Docker, where their provider's configuration names none. Not set: Docker's default bridge.",
    "docker_enabled": "`auto`: used while it is reachable. `1`: must be reachable, and says loudly when not. `0`: off.",
    "kubernetes_enabled": "The same for Kubernetes.",
    "process_enabled": "Workers as processes of this machine, as the same user. Not set: on in `hodei dev` and `hodei demo` alone.",
    "provider_access": "`0`: this process reaches no provider (Docker's socket, a cluster) and tells what the clock found last. For HTTP services.",
    "provisioning_enabled": "`0`: no new workers are made; jobs wait for those that are there.",
    "job_controller_enabled": "`0`: no job is dispatched; they stay PENDING.",
    "api_token": "The bearer token of the operators' routes. The CLI sends it too.",
    "allow_unauthenticated": "`1`: listen beyond loopback without a token all the same.",
    "dev_mode": "Set by `hodei dev` and `hodei demo`: the process provider is on.",
    "allowed_origins": "Origins of web pages that may call, separated by commas.",
    "allowed_hosts": "Further names that the Host header may have, separated by commas.",
    "k8s_kubeconfig": "Kubernetes: the configuration file; else the account of the pod that this runs in, `KUBECONFIG`, `~/.kube/config`.",
    "k8s_context": "Kubernetes: the context; else the current one.",
    "k8s_namespace": "Kubernetes: where workers run.",
    "k8s_service_account": "Kubernetes: the workers' account.",
    "k8s_image_pull_secret": "Kubernetes: the secret with the registry's credentials.",
    "log_dir": "Where finished jobs' log files are exported.",
    "log_max_bytes": "Largest log of one execution; a log that was cut says so.",
    "log_retention": "How long logs are kept after their attempt's end: the stored log and the exported file. Days of logs are dropped whole.",
    "log_spool_bytes": "How much of a log a worker keeps on disk while the platform cannot be reached.",
    "heartbeat_interval": "How often agents report.",
    "worker_lost_after": "After this silence the provider is asked; a worker that is gone is given up at once.",
    "worker_give_up_after": "After this silence a worker is given up in any case.",
    "otp_ttl": "How long a worker's one-time token is good.",
    "secret_key": "Encrypts secrets at rest. Not set: made once and kept in the data folder. Set the same one for all processes.",
    "data_dir": "The embedded servers' data, the secret key, process workers' folders. Default: `/var/lib/hodei` as root, else `.hodei` in the current folder.",
    "controller_threads": "How many saga steps a controller does at a time.",
    "step_limit": "A controller or clock in which one step, or one round of a loop, takes longer starts itself anew.",
    "http_threads": "How many requests a server process answers at a time; each agent's long poll is one. An eighth of them, at most 64, is kept from agents.",
    "flower_port": "Where Flower listens.",
    "flower_basic_auth": "Flower's `user:password`. Not set: the user `hodei` with `HODEI_API_TOKEN`, where there is one; with neither, Flower listens on loopback alone.",
    "metrics_port": "Where a controller and a clock serve `/metrics`; `0`: they do not. Where it is taken, by another of them on the same machine, the first free one of the 15 after it: the log says which.",
    "log_format": "How servers log: `json`, `console`, or `auto` (console on a terminal).",
}
OTHERS = {
    "URL": "The CLI: where the platform is; also `--server`. Default: what `hodei dev` on this machine noted, else `http://127.0.0.1:8080`.",
    "PATIENCE": "The CLI: for how many seconds a service that is away, because it is being restarted, is tried again. Default: 10. No request is done twice thereby.",
    "IMAGE": "The control plane's image in `deploy/compose.yaml`.",
    "JOB_ID, HODEI_EXECUTION_ID, HODEI_ATTEMPT, HODEI_OUTPUT": "Set inside a job.",
    "SERVER, HODEI_TOKEN, HODEI_WORKER_ID": "Set inside a worker for its agent; no job sees the token.",
    "E2E_DOCKER, HODEI_K8S_TEST": "Switches of the tests.",
}


def settings() -> str:
    """Every variable, its default, its meaning."""
    rows = [
        f"| `{PREFIX}{name.upper()}` | {_default(name)} | {MEANINGS[name]} |"
        for name in Settings.model_fields
    ]
    others = [
        f"| `{PREFIX}{name}`".replace(", ", "`, `") + f" | {meaning} |" for name, meaning in OTHERS.items()
    ]
    return f"""{NOTE}
# Settings

Read once, at start, from the environment. A server stops at an unknown `HODEI_*` variable with a suggestion; the
CLI warns. Durations may have a unit (`30`, `30s`, `5m`, `7d`), sizes too (`512m`, `256MiB`).

| variable | default | meaning |
| --- | --- | --- |
{_lines(rows)}

Not the servers' settings:

| variable | meaning |
| --- | --- |
{_lines(others)}
"""


def _default(name: str) -> str:
    value = Settings.model_fields[name].default
    if value is None or value == "":
        return "not set"
    return (
        f"`{int(value) if isinstance(value, bool) else f'{value:g}' if isinstance(value, float) else value}`"
    )


def error_codes() -> str:
    """Why attempts end, and the errors of the API."""
    causes = [
        f"| {c.code} | {c.title} | {c.severity.value} | {' '.join(c.actions)} |" for c in CAUSES.values()
    ]
    kinds = sorted(set(_subclasses(errors.HodeiError)), key=lambda kind: (kind.status, kind.code))
    answers = [
        f"| {k.status} | `{k.code}` | {k.exit_code} | {' '.join((k.__doc__ or '').split())} |" for k in kinds
    ]
    return f"""{NOTE}
# Error codes

## Why an attempt ended

`error_code` in the table `jobs`, `error.code` over HTTP. The severity says whose the cause is: INFRASTRUCTURE and
CRITICAL ones are tried again without using up the job's own `--retries`.

| code | what | severity | what to do |
| --- | --- | --- | --- |
{_lines(causes)}

## What the API refuses

`application/problem+json` with these stable codes; the CLI exits with the number given. It exits with 0 when all is
done, with 1 or the job's own exit code when the job did not succeed, 2 on wrong usage, 3 when the server refuses,
4 when it cannot be reached.

| status | code | CLI's exit code | meaning, when nothing more exact is said |
| --- | --- | --- | --- |
{_lines(answers)}
"""


def _subclasses(kind: type[errors.HodeiError]) -> Iterator[type[errors.HodeiError]]:
    for found in kind.__subclasses__():
        if found.__module__ == errors.__name__:
            yield found
            yield from _subclasses(found)


def cli() -> str:
    """Every command with its options and examples."""
    parts = [section for command in _commands(typer.main.get_command(app), "hodei") for section in command]
    return f"""{NOTE}
# The command line

`hodei` and `hodei-jobs-cli` are the same program. `hodei job run` writes the job's id to stdout and nothing else;
whatever else there is to say goes to stderr. `--server URL` and `--token TOKEN` may be given to every command that
talks to the platform. Exit codes: see [error codes](error-codes.md).

{"".join(parts).rstrip()}
"""


def _commands(command: Any, path: str) -> Iterator[list[str]]:
    for name in sorted(getattr(command, "commands", {})):
        child = command.commands[name]
        if hasattr(child, "commands"):
            yield from _commands(child, f"{path} {name}")
        else:
            yield _command(child, f"{path} {name}")


def _command(command: Any, path: str) -> list[str]:
    context = typer.Context(command, info_name=path)
    usage = " ".join(
        [path, *(piece for piece in command.collect_usage_pieces(context) if piece != "[OPTIONS]")]
    )
    rows = []
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if (
            parameter.param_type_name == "option"
            and record
            and parameter.name not in ("server", "token", "help")
        ):
            rows.append(f"| `{record[0]}` | {' '.join(record[1].split())} |".replace("|docker", "docker"))
    epilog = (command.epilog or "").replace("\b", "").replace("Example:", "").strip("\n")
    examples = [line.strip() for line in epilog.splitlines() if line.strip()]
    text = [f"## {path}\n\n", f"{' '.join((command.help or '').split())}\n\n", f"`{usage}`\n\n"]
    if rows:
        escaped = [_escape(row) for row in rows]
        text.append(f"| option | |\n| --- | --- |\n{_lines(escaped)}\n\n")
    text.append(f"```sh\n{_lines(examples)}\n```\n\n")
    return text


def _escape(row: str) -> str:
    """A bar inside of a cell, as in ``a|b``, is not the end of the cell."""
    first, middle, last = row.partition("` | ")
    return "| `" + first.removeprefix("| `").replace("|", "\\|") + middle + last


def tasks_and_queues() -> str:
    """What an operator sees in Flower."""
    rows = []
    for saga in SAGA_TYPES:
        for step in saga.steps:
            undo = f"`{names.undo_task(saga.name, step.name)}`" if step.undoable else ""
            rows.append(
                f"| {saga.name} | {step.name} | `{names.step_task(saga.name, step.name)}` "
                f"| {undo} | `{names.step_queue(step.name)}` |"
            )
    return f"""{NOTE}
# Tasks and queues

What Flower and `celery inspect` show. A message says "look at this" and carries ids, never work: one that comes twice,
late or never changes nothing, and the clock sends again what stopped. A job never runs inside a task.

| saga | step | task | its undoing | queue |
| --- | --- | --- | --- | --- |
{_lines(rows)}

| task | argument | does | queue |
| --- | --- | --- | --- |
| `{names.LOOK}` | | gives out the jobs that wait and have room | `{names.DISPATCH}` |
| `{names.DESTROY}` | worker's id | destroys a worker that is TERMINATING | `{names.INFRASTRUCTURE}` |
| `{names.ADVANCE}` | run's id | looks at a run of a pipeline: what its jobs came to, and what starts because of it | `{names.DISPATCH}` |
| `{names.PULL}` | provider's id, image | starts the pull of an image, and does not wait for it | `{names.PULLS}` |

A controller takes messages from {", ".join(f"`{queue}`" for queue in names.QUEUES)}, in this order. Their names in Redis have a
prefix of the deployment's own, so that several deployments can share a Redis.
"""


def metrics() -> str:
    """Every metric, its labels, its meaning."""
    shown = {
        Shown.PLATFORM: [row for row in map(_metric, CATALOGUE) if row[0] is Shown.PLATFORM],
        Shown.PROCESS: [row for row in map(_metric, CATALOGUE) if row[0] is Shown.PROCESS],
    }
    of_platform, of_process = ([row[1] for row in rows] for rows in shown.values())
    return f"""{NOTE}
# Metrics

`GET /metrics` of `orchestrator`, `scheduler` and `worker-manager`, and of each controller and clock where
`HODEI_METRICS_PORT` is set. How to have them scraped, with rules and a dashboard: [Watch the platform](../howto/watch-the-platform.md).

## The whole platform's

Read from Postgres and Redis, so they are the same at each of the three services, whichever is asked: add them up over nothing, take
`max by (…)`. Counters and histograms are kept in Postgres: they outlive every process. A scrape reads them at most once a second, from
small tables and partial indexes, and never fails: without Postgres it shows `hodei_database_up 0` and what is the process's own.
The bounds of the histograms are {_bounds(BOUNDS_S)} s.

| metric | kind | labels | meaning |
| --- | --- | --- | --- |
{_lines(of_platform)}

## A process's own

Since its start. The bounds of the histograms are {_bounds(SHORT_S)} s. Each process shows `process_…` and `python_…` of the
Prometheus client, too.

| metric | kind | labels | meaning |
| --- | --- | --- | --- |
{_lines(of_process)}
"""


def _metric(metric: Metric) -> tuple[Shown, str]:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return metric.shown, f"| `{metric.name}` | {metric.kind.value} | {labels} | {metric.help} |"


def _bounds(bounds: tuple[float, ...]) -> str:
    return ", ".join(f"{bound:g}" for bound in bounds)


def _lines(lines: list[str]) -> str:
    return "\n".join(lines)


def pipeline_schema() -> str:
    """What a pipeline's file may hold."""
    return json.dumps(file_schema(), indent=2) + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "settings.md": settings,
    "cli.md": cli,
    "error-codes.md": error_codes,
    "tasks-and-queues.md": tasks_and_queues,
    "metrics.md": metrics,
    "pipeline.schema.json": pipeline_schema,
}


def main() -> int:
    for name, page in PAGES.items():
        (REFERENCE / name).write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
