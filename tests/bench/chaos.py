"""The chaos suite for hours: thousands of jobs, every fault again and again, with the platform's real times.

Then 200 running jobs while the platform is away for five minutes. The same code as ``tests/acceptance/chaos`` runs.
Needs root, Docker and the worker image; starts a Docker engine, a Postgres and a Redis of its own, and leaves nothing behind.
"""

from __future__ import annotations

import secrets
import sys

from support import chaos_docker
from support.chaos_arena import REAL, SCALED, Scale, open_arena
from support.chaos_downtime import run_downtime
from support.chaos_storm import PROCESSES, run_storm
from support.chaos_verdict import judge, print_table
from support.platform import E2E_IMAGE

from tests.bench.stage import arguments, leave_by_sigterm, scrub_environment, table

JOBS = 5_000
EACH = 12
DOWN_JOBS = 200
DOWN_S = 300.0


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--jobs", type=int, default=JOBS)
    parser.add_argument("--each", type=int, default=EACH, help="how often each fault hits at least")
    parser.add_argument("--seed", type=int, default=None, help="of a run that is to be repeated")
    parser.add_argument("--scaled", action="store_true", help="with the times of the suite in CI")
    parser.add_argument("--no-storm", action="store_true", help="the five minutes alone")
    parser.add_argument("--no-downtime", action="store_true", help="leave the five minutes out")
    parser.add_argument("--down-jobs", type=int, default=DOWN_JOBS, help="how many run while all is away")
    parser.add_argument("--image", default=E2E_IMAGE)
    given = parser.parse_args()
    reason = chaos_docker.missing()
    if reason:
        print(reason, file=sys.stderr)
        return 2
    scrub_environment()
    leave_by_sigterm()
    good = True
    if not given.no_storm:
        scale = SCALED if given.scaled else REAL
        good = _storm(given.servers, given.image, given.jobs, given.each, given.seed, scale)
    if not given.no_downtime:
        good = _downtime(given.servers, given.down_jobs) and good
    return 0 if good else 1


def _storm(servers: str, image: str, jobs: int, each: int, seed: int | None, scale: Scale) -> bool:
    seed = secrets.randbelow(10**6) if seed is None else seed
    print(f"seed {seed}", flush=True)
    with open_arena(servers, seed=seed, scale=scale, image=image, workers=(12, 16), names=PROCESSES) as arena:
        storm = run_storm(
            arena,
            jobs=jobs,
            each=each,
            providers=("process", "docker"),
            in_flight=40,
            settle_within_s=600 + 3 * scale.give_up_after,
        )
        verdict = judge(arena, storm)
        print_table(arena, storm, verdict, seed)
        print(verdict.words(), flush=True)
        return not verdict.wrong and all(len(hits) >= each for hits in storm.hits.values())


def _downtime(servers: str, jobs: int) -> bool:
    with open_arena(servers, seed=1, scale=REAL, workers=(jobs, 0)) as arena:
        seen = run_downtime(arena, jobs=jobs, down_s=DOWN_S, start_within_s=900)
    wrong = len(seen.wrong_logs), len(seen.left)
    rows = [
        ("jobs that ran", jobs),
        ("new attempts", sum(count for attempt, count in seen.attempts.items() if attempt != 1)),
        ("not SUCCEEDED", sum(count for state, count in seen.states.items() if state != "SUCCEEDED")),
        ("ended while the platform was away", seen.ended_while_away),
        ("started more than once", len(seen.facts.witness.repeats)),
        ("logs not whole, things left", f"{wrong[0]}, {wrong[1]}"),
    ]
    table(f"{DOWN_S:g} s without the platform", ("what", "how many"), rows)
    return rows[1][1] == rows[2][1] == rows[4][1] == 0 and wrong == (0, 0)


if __name__ == "__main__":
    sys.exit(main())
