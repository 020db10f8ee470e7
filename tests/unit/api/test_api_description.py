from __future__ import annotations

import importlib
import json
import pkgutil
import re

import pytest
from pydantic import BaseModel

from hodei.api import schemas
from hodei.errors import DatabaseUnavailable
from hodei.observability.samples import Bucket, Figures, Sample

TAGS = {
    "JobExecutionService",
    "WorkerAgentService",
    "SchedulerService",
    "ProviderManagementService",
    "MetricsService",
    "LogStreamService",
}
SERVICES = ["orchestrator", "scheduler", "worker-manager"]


def description(client, service, **settings):
    return client(service, **settings).get("/openapi.json").json


def test_the_services_together_use_the_six_tags(client):
    used = {
        tag
        for service in SERVICES
        for item in description(client, service)["paths"].values()
        for operation in item.values()
        for tag in operation["tags"]
    }

    assert used == TAGS


@pytest.mark.parametrize("service", SERVICES)
def test_every_reference_leads_somewhere(client, service):
    document = description(client, service)

    referenced = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))

    assert referenced <= set(document["components"]["schemas"])


def bare_patterns(schema):
    """The patterns that pydantic itself looks at: to a person it says nothing but them."""
    if isinstance(schema, dict):
        if schema.get("type") == "str" and "pattern" in schema:
            yield schema["pattern"]
        schema = list(schema.values())
    if isinstance(schema, list | tuple):
        for part in schema:
            yield from bare_patterns(part)


def test_no_request_is_refused_with_a_regular_expression():
    models = [
        model
        for module in pkgutil.iter_modules(schemas.__path__, f"{schemas.__name__}.")
        for model in vars(importlib.import_module(module.name)).values()
        if isinstance(model, type) and issubclass(model, BaseModel)
    ]

    assert len(models) > 100
    assert [pattern for model in models for pattern in bare_patterns(model.__pydantic_core_schema__)] == []


@pytest.mark.parametrize("service", SERVICES)
def test_every_route_is_described_with_its_errors_as_problems(client, service):
    application = client(service).application
    document = description(client, service)
    rules = {
        (re.sub(r"<(?:[^:>]+:)?([^>]+)>", r"{\1}", rule.rule), method)
        for rule in application.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
        if not rule.rule.startswith(("/swagger-ui", "/static"))
    }

    described = {(path, method.upper()) for path, item in document["paths"].items() for method in item}

    assert described == rules
    for item in document["paths"].values():
        for operation in item.values():
            for status, response in operation["responses"].items():
                if int(status) >= 400 and "Health" not in json.dumps(response):
                    assert list(response["content"]) == ["application/problem+json"]


@pytest.mark.parametrize("service", SERVICES)
def test_operations_have_different_ids(client, service):
    ids = [
        operation["operationId"]
        for item in description(client, service)["paths"].values()
        for operation in item.values()
    ]

    assert len(ids) == len(set(ids))


def test_a_job_is_described_as_closed_and_with_an_example(client):
    schema = description(client, "orchestrator")["components"]["schemas"]["JobIn"]

    assert schema["additionalProperties"] is False
    assert schema["examples"]
    assert schema["properties"]["env"]["propertyNames"]["pattern"]


@pytest.mark.parametrize("service", SERVICES)
def test_no_object_is_alternatives_at_its_root_where_generated_clients_would_lose_its_fields(client, service):
    for name, schema in description(client, service)["components"]["schemas"].items():
        assert not ("properties" in schema and schema.keys() & {"anyOf", "oneOf"}), name


def test_the_token_is_described_where_it_is_wanted(client):
    open_door = description(client, "orchestrator")["paths"]["/api/v1/jobs"]["get"]
    closed = description(client, "orchestrator", api_token="s3cret")["paths"]["/api/v1/jobs"]["get"]

    assert open_door["security"] == []
    assert closed["security"] == [{"operator": []}]


@pytest.mark.parametrize("service", SERVICES)
def test_the_page_loads_nothing_from_elsewhere(client, service):
    web = client(service)
    page = web.get("/swagger-ui")

    assert page.content_type.startswith("text/html")
    assert "://" not in page.text
    assert "'self'" in page.headers["Content-Security-Policy"]
    for address in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        with web.get(address) as file:
            assert file.status_code == 200
    assert web.get("/swagger-ui/../../__init__.py").status_code == 404


def test_health_names_the_sibling_services(client, calls):
    calls.answer("health.check", {"status": "degraded", "service": "scheduler", "version": "1", "checks": {}})

    response = client("scheduler", orchestrator_port=9000).get("/health", headers={"Host": "127.0.0.1:8081"})

    assert response.status_code == 200
    assert response.json["services"] == {
        "orchestrator": "http://127.0.0.1:9000",
        "scheduler": "http://127.0.0.1:8081",
        "worker_manager": "http://127.0.0.1:8082",
    }


def test_health_is_503_when_the_service_cannot_work(client, calls):
    calls.answer("health.check", {"status": "down", "service": "scheduler", "version": "1", "checks": {}})
    assert client("scheduler").get("/health").status_code == 503

    calls.answer("health.check", DatabaseUnavailable("The database cannot be reached."))
    response = client("scheduler").get("/health")

    assert response.status_code == 503
    assert response.json["checks"]["database"] == {"ok": False, "message": "The database cannot be reached."}


def test_metrics_count_by_route_and_show_the_platforms_figures(client, calls, job):
    waiting = Sample("hodei_queue_jobs", ("docker",), 2)
    ran = [
        Bucket("hodei_job_state_duration_seconds", ("running", "docker"), le, 1, seconds)
        for le, seconds in ((0.5, 0.4), (30.0, 12.0))
    ]
    calls.answer("figures.read", Figures(samples=[waiting], buckets=ran))
    calls.answer("jobs.get_job", job)
    orchestrator = client()

    orchestrator.get(f"/api/v1/jobs/{job['id']}")
    orchestrator.open("/strange", method="BREW")
    text = orchestrator.get("/metrics").text

    labels = 'method="GET",route="/api/v1/jobs/<job_id>",service="orchestrator",status="200"'
    assert f"hodei_http_requests_total{{{labels}}} 1.0" in text
    assert 'method="other",route="none"' in text
    assert 'hodei_queue_jobs{provider="docker"} 2.0' in text
    assert "hodei_database_up 1.0" in text
    ran_labels = 'provider="docker",state="running"'
    for le, reached in (("0.25", 0), ("0.5", 1), ("10.0", 1), ("30.0", 2), ("+Inf", 2)):
        wanted = f'le="{le}",{ran_labels}}} {reached}.0'
        assert f"hodei_job_state_duration_seconds_bucket{{{wanted}" in text
    assert f"hodei_job_state_duration_seconds_sum{{{ran_labels}}} 12.4" in text


def test_metrics_are_there_without_a_database(client, calls):
    calls.answer("figures.read", DatabaseUnavailable())

    response = client().get("/metrics")

    assert response.status_code == 200
    assert "hodei_database_up 0.0" in response.text
    assert "process_start_time_seconds" in response.text
