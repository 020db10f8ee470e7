"""What becomes of a job when an attempt ends: an end, or another attempt.

Two budgets, never mixed: the user's retries (``--retries``, asked for) pay for the user's causes, the infrastructure's
(:data:`hodei.domain.job.INFRASTRUCTURE_RETRIES`) for causes that are not the user's. A provider that had no place after all
costs nobody: nothing was tried yet.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum

from hodei.domain.causes import Failure
from hodei.domain.job import INFRASTRUCTURE_RETRIES, JobSpec
from hodei.domain.states import JobState

FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 60.0
QUEUE_TIME_OUT = "ERR_1014"
NO_PLACE = frozenset({"ERR_4003", "ERR_4004"})
"""The provider was full, or not well, when the place that the dispatcher had seen was to be taken."""


class Payer(StrEnum):
    """Whose budget a further attempt is taken from."""

    USER = "user"
    INFRASTRUCTURE = "infrastructure"
    NOBODY = "nobody"


@dataclass(frozen=True, kw_only=True)
class End:
    """The job is over."""

    state: JobState


@dataclass(frozen=True, kw_only=True)
class Retry:
    """Another attempt, after ``delay_s``."""

    delay_s: float
    paid_by: Payer


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
    if failure.code in NO_PLACE:
        return Retry(delay_s=delay(1), paid_by=Payer.NOBODY)
    if failure.is_infrastructure:
        if infra_retries_used < INFRASTRUCTURE_RETRIES:
            return Retry(delay_s=delay(infra_retries_used + 1), paid_by=Payer.INFRASTRUCTURE)
        return End(state=end)
    if user_retries_left > 0 and (not spec.retry_on or exit_code in spec.retry_on):
        return Retry(delay_s=delay(spec.retries - user_retries_left + 1), paid_by=Payer.USER)
    return End(state=end)
