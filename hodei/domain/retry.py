"""What becomes of a job when an attempt ends: an end, or another attempt.

Two budgets, never mixed: the user's retries (``--retries``, asked for) pay for the user's causes, the infrastructure's
(:data:`hodei.domain.job.INFRASTRUCTURE_RETRIES`) for causes that are not the user's.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from hodei.domain.causes import Failure
from hodei.domain.job import INFRASTRUCTURE_RETRIES, JobSpec
from hodei.domain.states import JobState

FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 60.0
QUEUE_TIME_OUT = "ERR_1014"


@dataclass(frozen=True, kw_only=True)
class End:
    """The job is over."""

    state: JobState


@dataclass(frozen=True, kw_only=True)
class Retry:
    """Another attempt, after ``delay_s``; paid by the user's budget or by the infrastructure's."""

    delay_s: float
    paid_by_user: bool


def delay(nth: int, *, draw: random.Random | None = None) -> float:
    """Back-off with full jitter over the upper half: 1, 2, 4 … 60 s."""
    ceiling = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** min(max(0, nth - 1), 16))
    return ceiling * (0.5 + 0.5 * (draw or random).random())


def decide(
    spec: JobSpec,
    *,
    failure: Failure | None,
    exit_code: int | None,
    end: JobState,
    user_retries_left: int,
    infra_retries_used: int,
) -> End | Retry:
    """What follows an attempt that ended in ``end`` because of ``failure``.

    A user's cause is tried again only as often as was asked for, and with ``retry_on`` only for those exit codes.
    Cancelled jobs never are, nor are those that waited in the queue for as long as they may.
    """
    if end in (JobState.SUCCEEDED, JobState.CANCELLED) or failure is None or failure.code == QUEUE_TIME_OUT:
        return End(state=end)
    if failure.is_infrastructure:
        if infra_retries_used < INFRASTRUCTURE_RETRIES:
            return Retry(delay_s=delay(infra_retries_used + 1), paid_by_user=False)
        return End(state=end)
    if user_retries_left > 0 and (not spec.retry_on or exit_code in spec.retry_on):
        return Retry(delay_s=delay(spec.retries - user_retries_left + 1), paid_by_user=True)
    return End(state=end)
