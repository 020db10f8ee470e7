"""A real Prometheus scrapes every process, answers every panel of the dashboard with numbers, and evaluates every rule."""

from __future__ import annotations

import json
import math
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from support.platform import CHECKOUT, RunningPlatform
from support.prometheus import (
    CONFIG,
    RULES,
    Prometheus,
    program,
    running_prometheus,
    scrape_configuration,
)
from support.servers import Servers, fresh_database
from support.waiting import until

from hodei.embedded.ports import free_port
from hodei.observability.catalogue import CATALOGUE, Kind
from hodei.observability.endpoint import NEIGHBOURS

TOKEN = "a token, of the tests"
DASHBOARD: dict[str, Any] = json.loads((CHECKOUT / "deploy/grafana/dashboards/hodei.json").read_text())
PANELS = [
    (f"{panel['title']} {target['refId']}", target["expr"].replace("$__rate_interval", "1m"))
    for panel in DASHBOARD["panels"]
    for target in panel["targets"]
]
NAMES = ("orchestrator", "scheduler", "worker-manager", "controller", "controller-2", "beat", "flower")


@pytest.fixture(scope="module")
def measured(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    """Every process by itself, behind a token; the two controllers and the clock share one setting for their metrics."""
    first, *_ = [free_port() for _ in range(NEIGHBOURS)]  # nobody else's of this test are among those
    with fresh_database(servers) as url:
        running = RunningPlatform(
            tmp_path_factory.mktemp("measured"),
            url,
            servers.redis_url,
            names=NAMES,
            api_token=TOKEN,
            metrics_port=str(first),
            flower_port=str(free_port()),
            log_format="json",
        )
        with running:
            yield running


def metrics_addresses(platform: RunningPlatform) -> dict[str, str]:
    """Where controllers and clock say that their metrics are."""

    def said() -> dict[str, str]:
        found = {}
        for name in ("controller", "controller-2", "beat"):
            for line in platform.log_file(name).read_text().splitlines():
                document = json.loads(line)
                if document["event"] == "metrics: listening":
                    found[name] = document["url"].removeprefix("http://").removesuffix("/metrics")
        return found if len(found) == 3 else {}

    return until(said, within_s=30, what="the addresses of the metrics")


@pytest.fixture(scope="module")
def prometheus(measured: RunningPlatform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "token").write_text(TOKEN)
    addresses = metrics_addresses(measured)
    targets = {
        "hodei": [f"127.0.0.1:{port}" for port in measured.ports.values()],
        "hodei-controller": [addresses["controller"], addresses["controller-2"]],
        "hodei-beat": [addresses["beat"]],
        "flower": [f"127.0.0.1:{measured.env['HODEI_FLOWER_PORT']}"],
    }
    with running_prometheus(folder, scrape_configuration(targets, folder / "token")) as found:
        yield found


def run_jobs(platform: RunningPlatform) -> None:
    """One of each kind that the panels tell apart."""
    with platform.client() as client:
        jobs = [
            client.create_job({"name": "good", "provider": "process", "command": "echo hello; sleep 0.2"}),
            client.create_job({"name": "bad", "provider": "process", "command": "exit 3"}),
        ]
        for job in jobs:
            client.wait(str(job.id))


def test_every_target_is_up(prometheus: Prometheus) -> None:
    until(
        lambda: len(prometheus.targets()) == 7 and set(prometheus.targets().values()) == {"up"},
        within_s=60,
        what=f"all targets up: {prometheus.targets()}",
    )


def test_every_panel_is_answered_with_numbers(measured: RunningPlatform, prometheus: Prometheus) -> None:
    def number(series: dict[str, Any]) -> bool:
        return math.isfinite(float(series["value"][1]))

    def silent() -> list[str]:
        return [
            title
            for title, expression in PANELS
            if not any(number(series) for series in prometheus.query(expression))
        ]

    waiting: list[str] = []
    give_up = time.monotonic() + 90
    while time.monotonic() < give_up:
        run_jobs(measured)
        waiting = silent()
        if not waiting:
            break

    assert waiting == []
    state = 'state="succeeded"'
    ended = prometheus.query(f"max(sum by (instance) (hodei_jobs_ended_total{{{state}}}))")
    there = measured.sql("SELECT count(*) FROM jobs WHERE state = 'SUCCEEDED'")[0][0]
    assert float(ended[0]["value"][1]) <= there
    until(
        lambda: (
            float(
                prometheus.query(f"max(sum by (instance) (hodei_jobs_ended_total{{{state}}}))")[0]["value"][1]
            )
            == there
        ),
        within_s=20,
        what="as many as the table has",
    )


def test_every_rule_is_evaluated_and_none_fires_while_all_is_well(prometheus: Prometheus) -> None:
    names = [rule["alert"] for rule in yaml.safe_load(RULES.read_text())["groups"][0]["rules"]]

    def evaluated() -> bool:
        return all(rule["health"] == "ok" for rule in prometheus.rules())

    until(evaluated, within_s=30, what="the rules' evaluation")
    assert [rule["name"] for rule in prometheus.rules()] == names
    assert [rule["name"] for rule in prometheus.rules() if rule["state"] == "firing"] == []


def test_what_a_process_shows_is_in_the_catalogue_and_of_the_kind_that_it_says(
    measured: RunningPlatform,
) -> None:
    run_jobs(measured)
    addresses = [f"127.0.0.1:{port}" for port in measured.ports.values()]
    addresses += metrics_addresses(measured).values()
    known = {metric.name.removesuffix("_total"): metric.kind for metric in CATALOGUE}
    shown: dict[str, Kind] = {}
    for address in addresses:
        answer = httpx.get(
            f"http://{address}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=20
        )
        assert answer.status_code == 200, address
        for family in text_string_to_metric_families(answer.text):
            if family.name.startswith("hodei_"):
                shown[family.name] = Kind(family.type)
                assert family.documentation

    assert {name: kind for name, kind in shown.items() if known.get(name) != kind} == {}
    rare = {"hodei_job_retries", "hodei_schedules"}
    assert known.keys() - shown.keys() <= rare


def test_without_the_token_or_under_a_strangers_name_nothing_is_shown(measured: RunningPlatform) -> None:
    for address in metrics_addresses(measured).values():
        assert httpx.get(f"http://{address}/metrics", timeout=20).status_code == 401
        right = {"Authorization": f"Bearer {TOKEN}"}
        assert httpx.get(f"http://{address}/other", headers=right, timeout=20).status_code == 404
        strange = right | {"Host": "rebound.example"}
        assert httpx.get(f"http://{address}/metrics", headers=strange, timeout=20).status_code == 403


def test_the_configuration_and_the_rules_are_what_promtool_takes() -> None:
    for arguments in (["check", "config", "--syntax-only", str(CONFIG)], ["check", "rules", str(RULES)]):
        done = subprocess.run([program("promtool"), *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_each_rule_fires_on_what_it_is_for(tmp_path: Path) -> None:
    document = yaml.safe_load((CHECKOUT / "tests/acceptance/prometheus_rules.yml").read_text())
    rules = yaml.safe_load(RULES.read_text())
    for rule in rules["groups"][0]["rules"]:
        assert rule.pop("annotations").keys() == {"summary", "action"}
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(rules))
    document["rule_files"] = ["rules.yml"]
    file = tmp_path / "cases.yml"
    file.write_text(yaml.safe_dump(document))

    done = subprocess.run(
        [program("promtool"), "test", "rules", str(file)], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    cases_that_fire = [
        case for test in document["tests"] for case in test["alert_rule_test"] if case["exp_alerts"]
    ]
    assert {case["alertname"] for case in cases_that_fire} == {
        rule["alert"] for rule in rules["groups"][0]["rules"]
    }


def test_the_dashboard_names_only_metrics_that_there_are() -> None:
    import re

    known = {metric.name for metric in CATALOGUE}
    known |= {
        f"{m.name}{end}"
        for m in CATALOGUE
        if m.kind is Kind.HISTOGRAM
        for end in ("_bucket", "_sum", "_count")
    }
    texts = [expression for _, expression in PANELS] + [RULES.read_text()]
    used = {name for text in texts for name in re.findall(r"\bhodei_\w+", text)}

    assert used <= known
