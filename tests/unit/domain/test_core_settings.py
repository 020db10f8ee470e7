"""Settings: what is understood, what is refused, and in which words."""

from __future__ import annotations

from typing import Any

import pytest

from hodei.errors import ConfigurationError
from hodei.settings import load_settings, unknown_variables


@pytest.mark.parametrize(
    ("variable", "suggestion"),
    [
        ("HODEI_DATABSE_URL", "did you mean HODEI_DATABASE_URL?"),
        ("HODEI_WORKER_IMGE", "did you mean HODEI_WORKER_IMAGE?"),
        ("HODEI_ORCHESTRATR_PORT", "did you mean HODEI_ORCHESTRATOR_PORT?"),
        ("HODEI_ZZZZZZZZ", "docs/reference/settings.md"),
    ],
)
def test_an_unknown_variable_stops_with_a_suggestion(variable: str, suggestion: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings({variable: "1"})

    assert caught.value.message.startswith(f"{variable} is not a setting")
    assert suggestion in caught.value.message
    assert caught.value.field == variable


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HODEI_SERVICE_HOST", "10.0.0.1"),
        ("HODEI_SERVICE_PORT", "8080"),
        ("HODEI_SERVICE_PORT_HTTP", "8080"),
        ("HODEI_PORT", "tcp://10.0.0.1:8080"),
        ("HODEI_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
        ("HODEI_PORT_8080_TCP_PROTO", "tcp"),
        ("HODEI_JOBS_API_SERVICE_HOST", "10.0.0.1"),
        ("HODEI_JOBS_API_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("HODEI_JOBS_API_PORT", "tcp://10.0.0.1:8080"),
        ("HODEI_E2E_DOCKER", "1"),
        ("HODEI_K8S_TEST", "1"),
        ("HODEI_JOB_ID", "x"),
        ("HODEI_TOKEN", "x"),
        ("HODEI_URL", "http://x"),
        ("PATH", "/bin"),
    ],
)
def test_what_kubernetes_tests_and_jobs_set_is_ignored(variable: str, value: str) -> None:
    assert unknown_variables({variable: value}) == []
    load_settings({variable: value})


def test_a_service_called_like_a_setting_does_not_set_it() -> None:
    """A Service named hodei-orchestrator makes Kubernetes inject HODEI_ORCHESTRATOR_PORT."""
    settings = load_settings({"HODEI_ORCHESTRATOR_PORT": "tcp://10.0.0.1:8080"})

    assert settings.orchestrator_port == 8080


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 30), ("30s", 30), ("1.5m", 90), ("500ms", 0.5), ("2h", 7200), ("7d", 604_800)],
)
def test_durations_are_read_with_their_units(text: str, seconds: float) -> None:
    assert load_settings({"HODEI_OTP_TTL": text}).otp_ttl == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [("1048576", 2**20), ("1MiB", 2**20), ("1M", 10**6), ("2g", 2 * 10**9), ("256 KiB", 2**18)],
)
def test_sizes_are_read_with_their_units(text: str, size: int) -> None:
    assert load_settings({"HODEI_LOG_MAX_BYTES": text}).log_max_bytes == size


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"HODEI_OTP_TTL": "soon"}, "HODEI_OTP_TTL='soon': is not a duration such as 30, 30s or 5m."),
        (
            {"HODEI_LOG_MAX_BYTES": "much"},
            "HODEI_LOG_MAX_BYTES='much': is not a size such as 1048576 or 256MiB.",
        ),
        ({"HODEI_ORCHESTRATOR_PORT": "70000"}, "HODEI_ORCHESTRATOR_PORT='70000'"),
        ({"HODEI_CONTROLLER_THREADS": "0"}, "HODEI_CONTROLLER_THREADS='0'"),
        ({"HODEI_DOCKER_ENABLED": "perhaps"}, "HODEI_DOCKER_ENABLED='perhaps'"),
        ({"HODEI_DATABASE_URL": "mysql://x"}, "is not a Postgres URL such as postgresql://"),
        ({"HODEI_REDIS_URL": "http://x"}, "is not a Redis URL such as redis://"),
        ({"HODEI_HEARTBEAT_INTERVAL": "0"}, "HODEI_HEARTBEAT_INTERVAL='0'"),
        ({"HODEI_WORKER_GIVE_UP_AFTER": "10"}, "HODEI_WORKER_GIVE_UP_AFTER must not be below"),
        ({"HODEI_HEARTBEAT_INTERVAL": "20"}, "at least twice HODEI_HEARTBEAT_INTERVAL"),
    ],
)
def test_a_bad_value_is_one_sentence_that_names_its_variable(environment: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(environment)

    assert words in caught.value.message
    assert "\n" not in caught.value.message
    assert "pydantic" not in caught.value.message.lower()


def test_a_bad_secret_is_not_shown() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings({}, secret_key=123, api_token=456)

    assert "123" not in caught.value.message
    assert "456" not in caught.value.message


@pytest.mark.parametrize(
    ("environment", "options", "url"),
    [
        ({"DATABASE_URL": "postgres://a/b"}, {}, "postgresql+psycopg2://a/b"),
        (
            {"DATABASE_URL": "postgres://a/b", "HODEI_DATABASE_URL": "postgresql://c/d"},
            {},
            "postgresql+psycopg2://c/d",
        ),
        ({"DATABASE_URL": "postgres://a/b", "HODEI_DATABASE_URL": ""}, {}, "postgresql+psycopg2://a/b"),
        ({"DATABASE_URL": "postgres://a/b"}, {"generic_database_url": False}, None),
    ],
)
def test_the_generic_database_url_is_used_where_ours_is_not_set(
    environment: dict[str, str], options: dict[str, Any], url: str | None
) -> None:
    assert load_settings(environment, **options).database_url == url


@pytest.mark.parametrize(
    ("word", "switch"), [("true", "1"), ("ON", "1"), ("no", "0"), ("AUTO", "auto"), ("1", "1")]
)
def test_switches_understand_the_usual_words(word: str, switch: str) -> None:
    assert load_settings({"HODEI_DOCKER_ENABLED": word}).docker_enabled == switch


def test_processes_are_workers_only_where_it_was_said_or_in_dev_mode() -> None:
    assert load_settings({}).process_provider is False
    assert load_settings({"HODEI_DEV_MODE": "1"}).process_provider is True
    assert load_settings({"HODEI_DEV_MODE": "1", "HODEI_PROCESS_ENABLED": "0"}).process_provider is False


def test_an_agents_lease_is_over_before_the_platform_counts_on_it() -> None:
    settings = load_settings({})

    assert settings.worker_lost_after < settings.worker_give_up_after < settings.lease_s
    assert settings.lease_over_s - settings.lease_s >= 30


def test_five_minutes_without_the_platform_are_within_an_agents_lease() -> None:
    assert load_settings({}).lease_s > 5 * 60 + load_settings({}).worker_lost_after


def test_secrets_are_not_in_the_settings_representation() -> None:
    settings = load_settings({"HODEI_API_TOKEN": "token-word", "HODEI_SECRET_KEY": "key-word"})

    assert "token-word" not in repr(settings)
    assert "key-word" not in repr(settings)
