"""One module per resource; :func:`routes_of` says which service has which."""

from __future__ import annotations

from hodei.api.routing import Routes


def routes_of(service: str) -> list[Routes]:
    """The resources of ``orchestrator``, ``scheduler`` or ``worker-manager``; and the system's own."""
    from hodei.api.routes import system

    system_routes = [system.routes, system.open_routes]
    if service == "orchestrator":
        from hodei.api.routes import events, job_records, jobs, logs, pipelines, providers, sagas

        return [
            jobs.routes,
            job_records.routes,
            logs.job_routes,
            pipelines.routes,
            providers.routes,
            events.routes,
            sagas.routes,
            system.summary_routes,
            *system_routes,
        ]
    if service == "scheduler":
        from hodei.api.routes import queue, registry, schedules

        return [schedules.routes, queue.routes, registry.routes, *system_routes]
    from hodei.api.routes import agent, executions, logs, workers

    return [workers.routes, executions.routes, logs.execution_routes, agent.routes, *system_routes]
