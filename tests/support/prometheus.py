"""A real Prometheus (Debian's), on the project's own rules, scraping a platform of the test's."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from hodei.embedded.ports import free_port
from support.platform import CHECKOUT
from support.waiting import until

CONFIG = CHECKOUT / "deploy/prometheus/prometheus.yml"
RULES = CHECKOUT / "deploy/prometheus/rules.yml"


def program(name: str) -> str:
    """``prometheus`` or ``promtool``. Skips on a laptop without it, fails in CI."""
    found = shutil.which(name)
    if found is None:
        reason = f"there is no {name} (Debian's package prometheus)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


class Prometheus:
    """What is asked over its HTTP API."""

    def __init__(self, url: str) -> None:
        self.url = url

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that an instant query gives. Raises when it is refused."""
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": expression}, timeout=20)
        assert answer.status_code == 200, f"{expression}: {answer.text}"
        result: list[dict[str, Any]] = answer.json()["data"]["result"]
        return result

    def targets(self) -> dict[str, str]:
        """Address → health of everything that is scraped."""
        found = httpx.get(f"{self.url}/api/v1/targets", timeout=20).json()["data"]["activeTargets"]
        return {f"{target['labels']['job']} {target['scrapeUrl']}": target["health"] for target in found}

    def rules(self) -> list[dict[str, Any]]:
        groups = httpx.get(f"{self.url}/api/v1/rules", timeout=20).json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]


def scrape_configuration(targets: dict[str, list[str]], token_file: Path) -> dict[str, Any]:
    """The project's configuration, with these targets for its jobs, and quicker."""
    document: dict[str, Any] = yaml.safe_load(CONFIG.read_text())
    document["global"] |= {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    document["rule_files"] = [str(RULES)]
    assert targets.keys() <= {job["job_name"] for job in document["scrape_configs"]}
    for job in document["scrape_configs"]:
        job.pop("dns_sd_configs", None)
        job["static_configs"] = [{"targets": targets.get(job["job_name"], [])}]
        if "authorization" in job:
            job["authorization"]["credentials_file"] = str(token_file)
    return document


@contextmanager
def running_prometheus(folder: Path, configuration: dict[str, Any]) -> Iterator[Prometheus]:
    """Listens on a free port of loopback until the end of the block."""
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(configuration))
    port = free_port()
    with (folder / "prometheus.log").open("wb") as output:
        process = subprocess.Popen(
            [
                program("prometheus"),
                f"--config.file={file}",
                f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--query.lookback-delta=30s",
            ],
            stdout=output,
            stderr=output,
            cwd=folder,
        )
    url = f"http://127.0.0.1:{port}"
    try:

        def ready() -> bool:
            assert process.poll() is None, (folder / "prometheus.log").read_text()[-2000:]
            try:
                return httpx.get(f"{url}/-/ready", timeout=2).status_code == 200
            except httpx.TransportError:
                return False

        until(ready, within_s=60, what="Prometheus")
        yield Prometheus(url)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
