from __future__ import annotations

import pytest

from hodei.errors import ConfigurationError
from hodei.exposure import check_exposure, flower_credentials, host_in
from hodei.services.paging import Page
from hodei.settings import Settings


@pytest.fixture
def healthy(calls):
    calls.answer("health.check", {"status": "ok", "service": "orchestrator", "version": "1", "checks": {}})
    calls.answer("providers.list_providers", Page(items=[]))


@pytest.fixture
def ask(client, healthy):
    """The status of a harmless request with these headers."""

    def get(path: str = "/api/v1/providers", *, settings: dict | None = None, **headers: str) -> int:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return client(**(settings or {})).get(path, headers=named).status_code

    return get


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:8080", "LOCALHOST", "127.0.0.1:8080", "127.9.9.9", "[::1]:8080", "localhost."],
)
def test_names_that_only_this_machine_has_are_taken(ask, host):
    assert ask(Host=host) == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8080",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "10.0.0.7",
        "[",
    ],
)
def test_a_rebound_name_is_refused(ask, host):
    assert ask(Host=host) == 403
    assert ask("/health", Host=host) == 403


def test_names_that_the_settings_have_are_taken(ask):
    assert ask(settings={"allowed_hosts": "hodei.example, Other.example"}, Host="other.example:8080") == 200
    assert ask(settings={"server_host": "https://hodei.example:8443/"}, Host="hodei.example") == 200
    assert ask(settings={"bind": "10.0.0.7"}, Host="10.0.0.7:8080") == 200


def test_a_server_on_every_address_takes_every_address_but_no_strange_name(ask):
    everywhere = {"bind": "0.0.0.0"}

    assert ask(settings=everywhere, Host="10.0.0.7:8080") == 200
    assert ask(settings=everywhere, Host="evil.example") == 403


def test_a_question_for_the_methods_is_answered_without_a_page(client, healthy):
    answer = client().options("/api/v1/jobs")

    assert (answer.status_code, answer.data) == (204, b"")
    assert "Content-Type" not in answer.headers
    assert {"GET", "POST"} <= set(answer.headers["Allow"].split(", "))


def test_the_dockers_host_name_is_for_agents_alone(client, healthy):
    manager = client("worker-manager")
    host = {"Host": "host.docker.internal:8082"}

    assert manager.get("/api/v1/executions", headers=host).status_code == 403
    assert manager.get("/api/v1/agent/inbox", headers=host).status_code == 401


def test_pages_of_other_origins_are_refused(ask):
    assert ask(Origin="https://evil.example") == 403
    assert ask(Origin="null") == 403
    assert ask(Origin="http://localhost:3000", Host="localhost:8080") == 403
    assert ask(Sec_Fetch_Site="cross-site") == 403
    assert ask(Sec_Fetch_Site="same-site") == 403


def test_its_own_pages_and_programs_are_answered(ask):
    assert ask(Origin="http://localhost:8080", Host="localhost:8080", Sec_Fetch_Site="same-origin") == 200
    assert ask(Sec_Fetch_Site="none") == 200
    assert ask() == 200


def test_a_job_cannot_be_submitted_from_another_origin(client, calls, job):
    calls.answer("submit.submit_job", job)

    response = client().post(
        "/api/v1/jobs", json={"command": "ls"}, headers={"Origin": "https://evil.example"}
    )

    assert response.status_code == 403
    assert "submit_job" not in calls.seen
    assert not [name for name, _ in response.headers if name.startswith("Access-Control")]


def test_a_link_to_the_description_works_from_anywhere(ask):
    navigation = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}

    assert ask("/swagger-ui", **navigation) == 200
    assert ask("/api/v1/providers", **navigation) == 403


def test_a_listed_origin_may_ask_and_read(client, healthy):
    orchestrator = client(allowed_origins="https://ops.example")
    origin = {"Origin": "https://ops.example"}

    asked = orchestrator.options("/api/v1/jobs", headers=origin | {"Access-Control-Request-Method": "POST"})
    answered = orchestrator.get("/api/v1/providers", headers=origin | {"Sec-Fetch-Site": "cross-site"})

    assert asked.status_code == 204
    assert "POST" in asked.headers["Access-Control-Allow-Methods"]
    assert answered.status_code == 200
    assert answered.headers["Access-Control-Allow-Origin"] == "https://ops.example"
    assert "Origin" in answered.headers["Vary"]


def test_without_a_token_on_loopback_none_is_wanted(ask):
    assert ask() == 200


def test_with_a_token_every_operator_route_wants_it(ask):
    secret = {"api_token": "s3cret-token"}

    assert ask(settings=secret) == 401
    assert ask("/metrics", settings=secret) == 401
    assert ask(settings=secret, Authorization="Bearer wrong") == 401
    assert ask(settings=secret, Authorization="Bearer ünicode") == 401
    assert ask(settings=secret, Authorization="Basic s3cret-token") == 401
    assert ask(settings=secret, Authorization="Bearer s3cret-token") == 200


@pytest.mark.parametrize("path", ["/health", "/openapi.json", "/swagger-ui", "/swagger-ui/start.js"])
def test_probes_and_the_description_need_no_token(ask, path):
    assert ask(path, settings={"api_token": "s3cret-token"}) == 200


def test_a_refusal_says_how_to_authenticate(client):
    response = client(api_token="s3cret-token").get("/api/v1/providers")

    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert response.json["code"] == "unauthorized"


@pytest.mark.parametrize("bind", ["0.0.0.0", "::", "192.168.1.4", "hodei.example"])
def test_listening_to_the_network_without_a_token_is_refused_in_one_sentence(bind):
    with pytest.raises(ConfigurationError) as raised:
        check_exposure(Settings(bind=bind))

    assert "HODEI_API_TOKEN" in raised.value.message


def test_listening_to_the_network_is_allowed_knowingly():
    check_exposure(Settings(bind="0.0.0.0", api_token="s3cret-token"))
    check_exposure(Settings(bind="0.0.0.0", allow_unauthenticated=True))
    check_exposure(Settings(bind="127.0.0.1"))
    check_exposure(Settings(bind="localhost"))


@pytest.mark.parametrize(
    ("value", "host"),
    [
        ("a.example", "a.example"),
        ("a.example:80", "a.example"),
        ("[::1]:80", "::1"),
        ("::1", "::1"),
        ("https://a.example:1/x", "a.example"),
        ("", ""),
    ],
)
def test_a_host_is_found_in_every_way_of_writing_it(value, host):
    assert host_in(value) == host


def test_every_answer_carries_the_requests_id_and_keeps_browsers_in_check(client, healthy):
    orchestrator = client()

    given = orchestrator.get("/api/v1/providers", headers={"X-Request-Id": "deploy-7"})
    strange = orchestrator.get("/nowhere", headers={"X-Request-Id": 'a"b c'})

    assert given.headers["X-Request-Id"] == "deploy-7"
    assert strange.headers["X-Request-Id"] not in ("", 'a"b c')
    for response in (given, strange):
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["X-Frame-Options"] == "DENY"
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]


def test_flower_wants_its_own_credentials_or_the_token_and_is_open_on_loopback_alone():
    assert flower_credentials(Settings(flower_basic_auth="me:mine", api_token="t0ken")) == "me:mine"
    assert flower_credentials(Settings(bind="0.0.0.0", api_token="t0ken")) == "hodei:t0ken"
    assert flower_credentials(Settings()) is None
    assert flower_credentials(Settings(bind="0.0.0.0", allow_unauthenticated=True)) is None
    with pytest.raises(ConfigurationError, match="HODEI_FLOWER_BASIC_AUTH=user:password"):
        flower_credentials(Settings(bind="0.0.0.0"))
