"""Several clocks at the same schedules, killed in the middle: each time is fired once."""

from __future__ import annotations

import multiprocessing
import random
from collections import Counter
from datetime import timedelta
from pathlib import Path

from support.core import Core
from support.core_schedules import attend_without_end, definition, put_back, schedule, tick
from support.waiting import until

from hodei.domain.schedule import CatchUp, Overlap

SCHEDULES, MINUTES, KILLS = 20, 25, 12
DONE = "SELECT count(*) AS n FROM hodei.schedule_firings"


def test_three_clocks_without_a_lease_killed_at_random_fire_each_time_once(
    core: Core, database_url: str, tmp_path: Path
) -> None:
    # given schedules that nothing has attended to for a while, and three that work on them at once
    core.provider("a")
    made_of = definition(core)
    made = [
        schedule(core, made_of, catch_up=CatchUp.ALL, catch_up_limit=1000, overlap=Overlap.ALLOW)
        for _ in range(SCHEDULES)
    ]
    first = {each: put_back(core, each, minutes=MINUTES) for each in made}
    spawn, draw = multiprocessing.get_context("spawn"), random.Random(20260801)

    def start() -> multiprocessing.process.BaseProcess:
        clock = spawn.Process(target=attend_without_end, args=(database_url, tmp_path), daemon=True)
        clock.start()
        return clock

    clocks = [start() for _ in range(3)]

    # when one of them is killed again and again, while there is something to do
    seen = 0
    for kill in range(KILLS):
        goal = min(seen + draw.randint(1, SCHEDULES * MINUTES // KILLS), SCHEDULES * MINUTES)
        seen = until(
            lambda goal=goal: (n := core.sql(DONE)[0].n) >= goal and n, within_s=60, what=f"kill {kill}"
        )
        which = draw.randrange(3)
        clocks[which].kill()
        clocks[which].join(10)
        clocks[which] = start()
    until(
        lambda: core.sql("SELECT min(next_at) > clock_timestamp() AS done FROM hodei.schedules")[0].done,
        within_s=60,
    )
    for clock in clocks:
        clock.kill()
        clock.join(10)
    tick(core)

    # then every schedule has a job for each minute, and one only
    jobs = core.sql("SELECT schedule_id, scheduled_for FROM jobs WHERE schedule_id IS NOT NULL")
    fired = core.sql(
        "SELECT aggregate_id, payload ->> 'scheduled_for' AS t FROM domain_events WHERE event_type = 'ScheduleFired'"
    )
    assert max(Counter((job.schedule_id, job.scheduled_for) for job in jobs).values()) == 1
    for each in made:
        times = sorted(job.scheduled_for for job in jobs if job.schedule_id == each)
        assert times == [first[each] + timedelta(minutes=n) for n in range(len(times))]
        assert len(times) > MINUTES
        assert sorted(row.t for row in fired if row.aggregate_id == each) == [
            time.isoformat() for time in times
        ]
