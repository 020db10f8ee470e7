"""``hodei status``: is it all well, and if not, what to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import typer

from hodei.cli import output
from hodei.cli.output import Format, FormatOption
from hodei.cli.target import Server, Token, connect
from hodei.client.errors import ServerUnreachable
from hodei.client.shapes import Health, Provider

if TYPE_CHECKING:
    from hodei.client.client import HodeiClient

SERVICES = ("orchestrator", "scheduler", "worker_manager")
ADVICE = {
    "database": "Check that Postgres runs and that HODEI_DATABASE_URL is right: hodei db check",
    "redis": "Start Redis or correct HODEI_REDIS_URL; until then jobs are accepted and wait.",
    "controller": "Start a controller, or look at its output: hodei controller",
    "dispatch": "Start a controller, or look at its output: hodei controller",
    "clock": "Start the clock, or look at its output: hodei beat",
    "worker_manager": "Start it, or look at its output: hodei serve worker-manager",
}
NO_PROVIDER = "No job can run: start Docker, or configure Kubernetes, and look with: hodei provider health"
RUNNING = frozenset({"ACTIVE", "DEGRADED", "OVERLOADED"})
"""States in which a provider can run jobs."""

CHOSEN = frozenset({"DISABLED", "MAINTENANCE"})
"""States that a person put a provider in: nothing to repair."""


@dataclass(kw_only=True)
class Report:
    """What was found. ``advice`` has what to do, each once; it is well when there is none. ``away``: providers that are."""

    lines: list[str] = field(default_factory=list)
    advice: dict[str, None] = field(default_factory=dict)
    away: list[str] = field(default_factory=list)
    document: dict[str, Any] = field(default_factory=dict)

    @property
    def is_well(self) -> bool:
        return not self.advice

    @property
    def verdict(self) -> str:
        """The last line but for the advice."""
        if not self.is_well:
            return "Not all is well. What to do:"
        if self.away:
            return f"Jobs can run, but not on {' and '.join(map(output.visible, self.away))}. See: hodei provider health"
        return "All is well."


def status(
    context: typer.Context, form: FormatOption = Format.TEXT, server: Server = None, token: Token = None
) -> None:
    """Is it all well, and if not, what to do? Exits with 0 when it is, 1 when not, 4 when away."""
    with connect(context, server, token) as platform:
        report = look(platform)
    if form is Format.JSON:
        output.put_json({"ok": report.is_well, "advice": list(report.advice), **report.document})
    else:
        for line in report.lines:
            output.put(line)
        output.put(report.verdict)
        for sentence in report.advice:
            output.put(f"  - {output.visible(sentence)}")
    if not report.is_well:
        raise typer.Exit(1)


def look(platform: HodeiClient) -> Report:
    """Asks every service and the list of providers. ServerUnreachable when the orchestrator is away."""
    report = Report(document={"services": {}, "providers": []})
    first = platform.health("orchestrator")
    for service in SERVICES:
        name = service.replace("_", "-")
        address = platform.address(service)
        try:
            health = first if service == "orchestrator" else platform.health(service)
        except ServerUnreachable:
            report.lines.append(f"{name}: UNREACHABLE at {output.visible(address)}")
            report.advice[f"Start it: hodei serve {name}"] = None
            report.document["services"][name] = {"status": "unreachable", "url": address}
            continue
        report.document["services"][name] = {"url": address, **health.document}
        judge_service(report, name, address, health)
    if first.status == "down":
        return report
    judge_providers(report, platform.providers())
    return report


def judge_service(report: Report, name: str, address: str, health: Health) -> None:
    """Adds a service's health, and for each failing check what to do."""
    report.lines.append(f"{name}: {output.visible(health.status)} at {output.visible(address)}")
    failing = {check: found for check, found in health.checks.items() if not found.ok}
    for check, found in failing.items():
        line = f"  {output.visible(check)}: {output.visible(found.message)}"
        if line not in report.lines:  # the services share most of what they need
            report.lines.append(line)
        report.advice[ADVICE.get(check, found.message)] = None
    if health.status != "ok" and not failing:
        report.advice[f"Look at the output of {name}."] = None


def judge_providers(report: Report, providers: list[Provider]) -> None:
    """Adds the providers. One that is away is told; that none is left to run a job is a fault."""
    for item in providers:
        reason = f" ({output.visible(item.status_reason)})" if item.status_reason else ""
        report.lines.append(
            f"provider {output.visible(item.name)}: {output.visible(item.status.lower())}{reason}"
        )
        report.document["providers"].append(item.document)
        if item.status.upper() not in RUNNING | CHOSEN:
            report.away.append(item.name)
    states = {item.status.upper() for item in providers}
    if not states & RUNNING:
        left_out = bool(states) and states <= CHOSEN
        report.advice["Every provider is switched off: hodei provider list" if left_out else NO_PROVIDER] = (
            None
        )
