"""The fleet under many agents, and what can be made to go wrong in it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from places import FakePlace, eventually
from stand_in import EXECUTION_ID, StandIn

from hodei.providers.contract import ImageMissing, ProviderError, ResourceState
from hodei.providers.fake.provider import FakeProvider


@pytest.fixture
def place(tmp_path: Path) -> Iterator[FakePlace]:
    made = FakePlace(tmp_path)
    yield made
    made.clean_up()


@pytest.fixture
def platform() -> Iterator[StandIn]:
    made = StandIn("127.0.0.1", {"shell": "echo begin; sleep 600; echo never"})
    yield made
    made.close()


def test_a_cancelled_job_is_reported_with_what_it_printed(place: FakePlace, platform: StandIn) -> None:
    provider = place.open(platform.address)
    provider.start(place.request())
    assert platform.started.wait(60)

    platform.send(
        {"kind": "cancel", "execution_id": EXECUTION_ID, "fence": 1, "grace_s": 1, "reason": "cancelled"}
    )

    assert platform.finished.wait(60)
    assert platform.result["outcome"] == "cancelled"
    assert (platform.output, platform.result["last_frame"]) == (b"begin\n", 1)
    assert platform.calls.index("accept") < platform.calls.index("started") < platform.calls.index("result")
    assert "heartbeat" not in platform.calls[:1]


def test_a_cancel_for_another_attempt_changes_nothing(place: FakePlace, platform: StandIn) -> None:
    provider = place.open(platform.address)
    provider.start(place.request())
    assert platform.started.wait(60)

    platform.send(
        {"kind": "cancel", "execution_id": EXECUTION_ID, "fence": 7, "grace_s": 1, "reason": "cancelled"}
    )
    platform.send({"kind": "shutdown", "grace_s": 1})

    assert platform.finished.wait(60)
    assert platform.result["outcome"] == "worker_stopped"


def test_a_job_ends_at_its_time_out(place: FakePlace, platform: StandIn) -> None:
    platform.messages[0]["execution"]["timeout_s"] = 0.1
    place.open(platform.address).start(place.request())

    assert platform.finished.wait(60)
    assert (platform.result["outcome"], platform.result["error_code"]) == ("timeout", "ERR_1005")


def test_a_pull_hangs_until_it_is_let_go(place: FakePlace) -> None:
    place.config = {"pull_s": None}
    provider = place.open()
    assert isinstance(provider, FakeProvider)
    request = place.request(image="hang/up:1")
    with pytest.raises(ImageMissing):
        provider.start(request)
    pull = threading.Thread(target=provider.prepare, args=("hang/up:1",))
    pull.start()

    provider.finish_pull("hang/up:1")
    pull.join(10)

    assert not pull.is_alive()
    provider.start(request)
    assert provider.inspect(request.worker_id).state is ResourceState.RUNNING


def test_a_pull_that_takes_too_long_is_given_up(place: FakePlace) -> None:
    place.config = {"pull_s": None, "pull_timeout_s": 0.05}

    with pytest.raises(ProviderError) as caught:
        place.open().prepare("hang/up:1")

    assert caught.value.failure.code == "ERR_3003"


def test_starts_can_be_made_to_fail_or_to_stay_silent(place: FakePlace) -> None:
    place.config = {"start_failure": "ERR_3002"}
    with pytest.raises(ProviderError) as caught:
        place.open().start(place.request())
    place.config = {"connects": False}
    silent = place.request()
    provider = place.open()
    provider.start(silent)

    assert caught.value.failure.code == "ERR_3002"
    assert provider.inspect(silent.worker_id).state is ResourceState.RUNNING


def test_a_start_that_takes_long_can_be_stopped_before_it_is_done(place: FakePlace) -> None:
    place.config = {"start_delay_s": 0.3}
    provider = place.open()
    request = place.request()
    with ThreadPoolExecutor(1) as threads:
        starting = threads.submit(provider.start, request)
        assert eventually(lambda: provider.inspect(request.worker_id).state is ResourceState.STARTING)
        provider.stop(request.worker_id)
        starting.result()

    assert provider.inspect(request.worker_id).state is ResourceState.GONE


def test_a_thousand_workers_start_in_seconds_and_are_all_listed(place: FakePlace) -> None:
    place.config = {"connects": False}
    provider = place.open()
    requests = [place.request() for _ in range(1000)]
    began = time.monotonic()

    for request in requests:
        provider.start(request)

    assert len(provider.list_workers(place.deployment)) == 1000
    assert time.monotonic() - began < 10
