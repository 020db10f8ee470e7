"""One module per resource; :func:`routes_of` says which service has which."""

from __future__ import annotations

from hodei.api.routing import Routes


def routes_of(service: str) -> list[Routes]:
    """The resources of ``orchestrator``, ``scheduler`` or ``worker-manager``; and the system's own."""
    from hodei.api.routes import system

    system_routes = [system.routes, system.open_routes]
    if service == "orchestrator":
        from hodei.api.routes import events, job_records, jobs, providers, sagas

        return [
            jobs.routes,
            job_records.routes,
            providers.routes,
            events.routes,
            sagas.routes,
            system.summary_routes,
            *system_routes,
        ]
    if service == "scheduler":
        from hodei.api.routes import queue, registry

        return [queue.routes, registry.routes, *system_routes]
    from hodei.api.routes import agent, executions, workers

    return [workers.routes, executions.routes, agent.routes, *system_routes]
