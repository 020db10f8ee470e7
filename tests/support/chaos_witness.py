"""What the jobs themselves saw, told in files of their own: overlaps and repeats show from outside, whatever the tables say."""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

LINES_PER_TICK = 5
SCRIPT = f"""\
exec 8>>"$WITNESS/$HODEI_JOB_ID.$HODEI_ATTEMPT.$RANDOM$RANDOM$RANDOM" 9<> <(:)
note() {{ read -r now _ </proc/uptime; printf '%s %s\\n' "$1" "$now" >&8; }}
ticks=$TICKS; [ "$HODEI_ATTEMPT" -eq 1 ] || ticks=$TICKS_LATER
note start
line=0
for ((tick = 0; tick < ticks; tick++)); do
    note tick
    for ((each = 0; each < {LINES_PER_TICK}; each++)); do echo "line $((++line)) of attempt $HODEI_ATTEMPT"; done
    read -r -t "$PAUSE" -u 9
    [ ! -e "$UNTIL" ] || break
done
note end
exit "$CODE"
"""
"""Runs for its ticks, or until there is a file ``$UNTIL``. Every note is one write to a file of the attempt's own; nothing is
forked, so that hundreds can run beside each other."""


@dataclass(kw_only=True)
class Life:
    """One start of a job's script, as its file tells it. Times are seconds since the machine's boot."""

    job_id: str
    attempt: int
    first: float = 0.0
    last: float = 0.0
    ticks: int = 0
    ended: bool = False


@dataclass(kw_only=True)
class Witness:
    """All lives, by job and attempt."""

    lives: dict[str, dict[int, list[Life]]] = field(default_factory=dict)

    @property
    def repeats(self) -> list[str]:
        """Attempts that were started more than once."""
        return [
            f"job {job_id} attempt {attempt}: started {len(lives)} times"
            for job_id, attempts in self.lives.items()
            for attempt, lives in attempts.items()
            if len(lives) > 1
        ]

    @property
    def overlaps(self) -> list[str]:
        """Attempts that began before another one of the same job was over."""
        found = []
        for job_id, attempts in self.lives.items():
            lives = sorted((life for each in attempts.values() for life in each), key=lambda life: life.first)
            for before, after in itertools.pairwise(lives):
                if after.first < before.last:
                    seen = f"{before.attempt} until {before.last}, {after.attempt} from {after.first}"
                    found.append(f"job {job_id}: attempt {seen}")
        return found

    def of(self, job_id: str, attempt: int) -> Life | None:
        lives = self.lives.get(job_id, {}).get(attempt, [])
        return lives[0] if lives else None

    def starts(self) -> int:
        return sum(len(lives) for attempts in self.lives.values() for lives in attempts.values())


def read_witness(folder: Path) -> Witness:
    """Read all files; a job that is killed may leave its last line unfinished."""
    lives: dict[str, dict[int, list[Life]]] = defaultdict(lambda: defaultdict(list))
    for path in folder.iterdir():
        job_id, attempt, _ = path.name.split(".")
        life = Life(job_id=job_id, attempt=int(attempt))
        for line in path.read_text().split("\n")[:-1]:
            what, at = line.split()
            life.first = life.first or float(at)
            life.last = float(at)
            life.ticks += what == "tick"
            life.ended = life.ended or what == "end"
        lives[job_id][life.attempt].append(life)
    return Witness(lives={job_id: dict(attempts) for job_id, attempts in lives.items()})
