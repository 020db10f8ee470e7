"""Whether anybody wants traces is what the standard variables say; when nobody does, they cost nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from hodei.errors import ConfigurationError
from hodei.observability.tracing import TRACEPARENT, NoTracing, is_wanted, open_tracing, span_id, with_span

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, False),
        (ENDPOINT, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, True),
        (ENDPOINT | {"OTEL_SDK_DISABLED": "true"}, False),
        (ENDPOINT | {"OTEL_TRACES_EXPORTER": "none"}, False),
        (ENDPOINT | {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, True),
        ({"OTEL_SERVICE_NAME": "x"}, False),
    ],
)
def test_the_standard_variables_say_whether_there_are_traces(
    environment: dict[str, str], *, wanted: bool
) -> None:
    assert is_wanted(environment) is wanted


def test_a_protocol_that_is_not_spoken_is_refused_by_the_name_of_its_variable() -> None:
    with pytest.raises(ConfigurationError, match="OTEL_EXPORTER_OTLP_PROTOCOL=grpc is not spoken"):
        is_wanted(ENDPOINT | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})


def test_without_them_nothing_of_opentelemetry_is_imported_by_any_process() -> None:
    program = (
        "import sys\n"
        "import hodei.bootstrap, hodei.api.app, hodei.api.server, hodei.queue.controller, hodei.services.clock\n"
        "from hodei.observability.tracing import open_tracing\n"
        "assert not open_tracing({}, 'test').on\n"
        "print([name for name in sys.modules if name.startswith(('opentelemetry', 'google'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_what_tells_nobody_can_be_told_everything() -> None:
    silent = open_tracing({}, "test")

    with silent.span("anything", kind="client", attributes={"a": 1}) as span:
        span.set(b=2)
        span.fail("no")

    assert isinstance(silent, NoTracing)
    assert silent.current() is None and not silent.in_request()


def test_a_spans_id_follows_from_what_it_stands_for() -> None:
    assert span_id("job", "run", 1) == span_id("job", "run", 1)
    assert len({span_id("job", "run", 1), span_id("job", "run", 2), span_id("job", "start", 1)}) == 3
    assert 0 < span_id("job") < 2**64


def test_a_context_within_a_span_is_of_the_same_trace_and_as_sampled() -> None:
    assert with_span(PARENT, 0xABC) == "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000abc-01"


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        (PARENT, True),
        (PARENT.replace("00-", "01-", 1) + "-more", True),
        (PARENT.replace("00-", "ff-", 1), False),
        (PARENT[:-1], False),
        ("garbage", False),
    ],
)
def test_a_callers_context_is_read_as_the_standard_says(text: str, *, is_one: bool) -> None:
    assert (TRACEPARENT.fullmatch(text) is not None) is is_one
