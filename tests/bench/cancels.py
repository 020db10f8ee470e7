"""1,000 cancels at random moments of a job's life, half on Docker, half on process; and how soon a cancel is done.

Each job is cancelled at a moment drawn from the seed; afterwards every job's state, events, attempts and log are checked, and
that nothing of any is left. Then a running ``sleep`` is cancelled ten times on each: from the call to CANCELLED, and to gone.
"""

from __future__ import annotations

import statistics
import sys
from collections import Counter

from support.cancels import Cancelled, Latency, cancel_a_running_sleep, cancel_at_random, wrong_ends

from bench.stage import Stage, arguments, open_stage, percentile, spread, table, verdict

LIMIT_S = 2.0
PROVIDERS = ("docker", "process")


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sleeps", type=int, default=10)
    given = parser.parse_args()
    with open_stage(given.servers, docker_enabled="1") as stage:
        good = _latency(stage, given.sleeps) if given.sleeps else True
        if given.jobs:
            good &= _random_moments(stage, given.jobs, given.at_once, given.seed)
        return 0 if good else 1


def _latency(stage: Stage, count: int) -> bool:
    """The table of a running job's cancel; True when the limits are kept."""
    took: dict[str, list[Latency]] = {
        provider: [cancel_a_running_sleep(stage.platform, provider) for _ in range(count)]
        for provider in PROVIDERS
    }
    rows = [
        [
            provider,
            spread([one.cancelled_s for one in found]),
            spread([one.gone_s for one in found]),
        ]
        for provider, found in took.items()
    ]
    title = f"A running sleep is cancelled, {count} times: from the call to"
    table(title, ["provider", "CANCELLED can be read, median", "nothing is left, median"], rows)
    gone = [statistics.median(one.gone_s for one in found) for found in took.values()]
    ended = [statistics.median(one.cancelled_s for one in found) for found in took.values()]
    verdicts = [
        verdict("median until CANCELLED", max(ended), LIMIT_S, " s"),
        verdict("median until nothing is left", max(gone), LIMIT_S, " s"),
    ]
    return all(verdicts)


def _random_moments(stage: Stage, count: int, at_once: int, seed: int) -> bool:
    """The table of the random cancels; True when every one ended rightly."""
    half = count // 2
    cancelled = cancel_at_random(
        stage.platform, {"docker": half, "process": count - half}, seed=seed, at_once=at_once
    )
    wrong = wrong_ends(stage.platform, cancelled)
    rows = [
        _row(met, [one for one in cancelled if one.met == met]) for met in sorted({o.met for o in cancelled})
    ]
    title = f"{count} cancels at random moments, seed {seed}"
    table(title, ["job was", "cancels", "ended", "call to end, p50", "p95", "most"], rows)
    for words in wrong:
        print(words, file=sys.stderr)
    return verdict("jobs and leftovers that are not right", len(wrong), 0)


def _row(met: str, found: list[Cancelled]) -> list[object]:
    took = [one.took_s for one in found]
    ends = ", ".join(
        f"{state} {number}" for state, number in Counter(one.state for one in found).most_common()
    )
    moments = [percentile(took, share) for share in (0.5, 0.95)]
    return [met, len(found), ends, *(f"{moment:.2f} s" for moment in moments), f"{max(took):.2f} s"]


if __name__ == "__main__":
    raise SystemExit(main())
