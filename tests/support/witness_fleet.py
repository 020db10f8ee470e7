"""A fleet of simulated workers that says aloud what it does: a line of JSON for each life and each performance.

``python witness_fleet.py --socket PATH``. Its output is a record that the platform has no hand in: a worker that was
started twice, or a job that was run twice, shows there whatever the tables say.
"""

from __future__ import annotations

import json
from typing import Any

from hodei.providers.fake import agent, fleet
from hodei.providers.fake.performance import Performance


def say(**fact: Any) -> None:
    print(json.dumps(fact), flush=True)


class WitnessFleet(fleet.Fleet):
    """Says when a worker begins to live."""

    async def _live(self, worker: fleet.Worker, *details: Any, **more: Any) -> None:
        say(what="life", worker_id=worker.worker_id)
        await super()._live(worker, *details, **more)


class WitnessedPerformance(Performance):
    """Says when a job begins to run."""

    async def _act(self) -> tuple[str, int]:
        job = {"job_id": self._execution["job_id"], "attempt": self._execution["attempt"]}
        say(what="run", execution_id=self.execution_id, **job)
        return await super()._act()


if __name__ == "__main__":
    fleet.Fleet = WitnessFleet  # type: ignore[misc]
    agent.Performance = WitnessedPerformance  # type: ignore[misc]
    fleet.main()
