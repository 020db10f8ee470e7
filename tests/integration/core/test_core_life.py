"""The job's state machine, on a real database: whatever comes, in any order and twice, it has one end and legal steps."""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from support.core import Core
from support.core_life import Life, prepare


def test_a_job_has_exactly_one_end_whatever_comes_in_whatever_order(core: Core) -> None:
    bound = {"core": core, "provider_id": prepare(core)}

    run_state_machine_as_test(
        type("LifeOfThisTest", (Life,), bound),
        settings=settings(
            max_examples=60,
            stateful_step_count=30,
            deadline=None,
            phases=[Phase.generate],  # shrinking takes minutes, on a database
            suppress_health_check=list(HealthCheck),
        ),
    )
