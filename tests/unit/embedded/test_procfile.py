"""The Procfile is the list of the platform's processes."""

from __future__ import annotations

from pathlib import Path

from honcho.environ import parse_procfile


def test_it_names_every_process_once_and_starts_each_by_the_command_line() -> None:
    processes = parse_procfile((Path(__file__).parents[3] / "Procfile").read_text()).processes

    assert list(processes) == [
        "embedded",
        "orchestrator",
        "scheduler",
        "worker-manager",
        "controller",
        "beat",
        "flower",
    ]
    assert all(command.startswith("hodei ") for command in processes.values())
