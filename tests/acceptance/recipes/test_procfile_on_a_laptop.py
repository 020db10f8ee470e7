"""``honcho start`` on a bare laptop: the Procfile with nothing configured, Postgres and Redis included."""

from __future__ import annotations

import httpx
from support.platform import CHECKOUT
from support.process_tree import with_text
from support.recipes import Person
from support.waiting import until

from hodei.client.client import HodeiClient
from hodei.errors import HodeiError

NEEDED = ("database", "redis", "controller", "clock", "worker_manager")


def test_honcho_runs_every_process_and_a_job_on_them(newcomer: Person) -> None:
    # given
    newcomer.env |= {"HODEI_PROCESS_ENABLED": "1", "HODEI_URL": newcomer.url}

    def ready() -> bool:
        try:
            with HodeiClient(newcomer.url, timeout_s=2) as client:
                checks = client.health().checks
        except HodeiError:
            return False
        return all(name in checks and checks[name].ok for name in NEEDED)

    with newcomer.begun("start", program="honcho") as honcho:
        until(ready, within_s=90, what="the platform's health")

        # when
        done = newcomer.hodei(
            "job", "run", "--provider", "process", "--command", "echo from a laptop", "--follow"
        )

        # then
        assert done.returncode == 0 and "from a laptop" in done.stderr, done.stderr
        assert newcomer.hodei("status").returncode == 0
        flower = f"http://127.0.0.1:{newcomer.env['HODEI_FLOWER_PORT']}/"
        until(lambda: _answers(flower), within_s=30, what="Flower")
        names = [line.partition(":")[0] for line in (CHECKOUT / "Procfile").read_text().splitlines()]
        honcho.until(*(f"{name}." for name in names))
    until(lambda: not with_text(str(newcomer.folder)), within_s=15, what="the end of all its processes")
    assert "Traceback" not in honcho.shown, honcho.shown[-5000:]


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5, trust_env=False, follow_redirects=True).status_code < 500
    except httpx.TransportError:
        return False
