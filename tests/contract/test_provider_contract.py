"""What every provider does, the same everywhere."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from places import FACT_S, Place, eventually
from stand_in import StandIn

from hodei.providers.contract import ImageMissing, ProviderError, ResourceState


def test_a_started_worker_is_running_under_the_id_that_start_returned(place: Place) -> None:
    provider = place.open()
    request = place.request()

    resource_id = provider.start(request)

    seen = provider.inspect(request.worker_id)
    assert resource_id
    assert (seen.worker_id, seen.state, seen.resource_id) == (
        request.worker_id,
        ResourceState.RUNNING,
        resource_id,
    )
    assert seen.exit_code is None and seen.failure is None


def test_starting_twice_makes_one_worker(place: Place) -> None:
    provider = place.open()
    request = place.request()

    first = provider.start(request)
    second = provider.start(request)

    assert first == second
    assert len(provider.list_workers(place.deployment)) == 1


def test_starting_the_same_worker_from_several_threads_makes_one(place: Place) -> None:
    provider = place.open()
    request = place.request()

    with ThreadPoolExecutor(4) as threads:
        ids = set(threads.map(lambda _: provider.start(request), range(4)))

    assert len(ids) == 1
    assert len(provider.list_workers(place.deployment)) == 1


def test_several_workers_start_at_once(place: Place) -> None:
    provider = place.open()
    requests = [place.request() for _ in range(6)]

    with ThreadPoolExecutor(6) as threads:
        ids = set(threads.map(provider.start, requests))

    running = provider.list_workers(place.deployment)
    assert len(ids) == 6
    assert {view.worker_id for view in running} == {request.worker_id for request in requests}
    assert {view.state for view in running} == {ResourceState.RUNNING}


def test_a_start_that_was_cut_short_is_finished_by_the_next(place: Place) -> None:
    provider = place.open()
    request = place.request()
    place.leave_half_made(request)

    provider.start(request)

    assert provider.inspect(request.worker_id).state is ResourceState.RUNNING
    assert len(provider.list_workers(place.deployment)) == 1


def test_what_a_start_that_was_cut_short_left_is_listed_and_can_be_removed(place: Place) -> None:
    provider = place.open()
    request = place.request()
    place.leave_half_made(request)

    listed = [view.worker_id for view in provider.list_workers(place.deployment)]
    provider.stop(request.worker_id)

    assert listed == [request.worker_id]
    assert place.traces(request.worker_id) == []


def test_a_worker_that_never_was_is_gone(place: Place) -> None:
    seen = place.open().inspect(uuid4())

    assert seen.state is ResourceState.GONE
    assert seen.resource_id is None


def test_stopping_leaves_nothing_behind(place: Place) -> None:
    provider = place.open()
    request = place.request()
    provider.start(request)
    assert place.traces(request.worker_id)

    provider.stop(request.worker_id)

    assert place.traces(request.worker_id) == []
    assert provider.inspect(request.worker_id).state is ResourceState.GONE
    assert provider.list_workers(place.deployment) == []


def test_stopping_what_is_gone_or_never_was_succeeds(place: Place) -> None:
    provider = place.open()
    request = place.request()
    provider.start(request)

    provider.stop(request.worker_id)
    provider.stop(request.worker_id)
    provider.stop(uuid4())
    provider.stop(uuid4(), grace_s=1)


def test_several_stop_the_same_worker_at_once(place: Place) -> None:
    provider = place.open()
    request = place.request()
    provider.start(request)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: provider.stop(request.worker_id), range(4)))

    assert place.traces(request.worker_id) == []


def test_a_stop_with_grace_lets_the_agent_leave_and_removes_it(place: Place) -> None:
    provider = place.open()
    request = place.request()
    provider.start(request)

    provider.stop(request.worker_id, grace_s=5)

    assert place.traces(request.worker_id) == []


def test_a_worker_that_died_is_seen_as_exited_until_it_is_removed(place: Place) -> None:
    provider = place.open()
    request = place.request()
    resource_id = provider.start(request)

    place.kill(request.worker_id)

    assert eventually(lambda: provider.inspect(request.worker_id).state is ResourceState.EXITED)
    seen = provider.inspect(request.worker_id)
    assert seen.resource_id == resource_id
    assert seen.failure is not None and seen.failure.is_infrastructure
    assert [view.state for view in provider.list_workers(place.deployment)] == [ResourceState.EXITED]
    provider.stop(request.worker_id)
    assert place.traces(request.worker_id) == []


def test_a_worker_that_exited_is_not_started_again(place: Place) -> None:
    provider = place.open()
    request = place.request()
    resource_id = provider.start(request)
    place.kill(request.worker_id)
    assert eventually(lambda: provider.inspect(request.worker_id).state is ResourceState.EXITED)

    assert provider.start(request) == resource_id
    assert provider.inspect(request.worker_id).state is ResourceState.EXITED


def test_only_the_own_deployment_is_listed(place: Place) -> None:
    provider = place.open()
    ours = place.request()
    theirs = place.request(deployment=f"{place.deployment}-other")
    provider.start(ours)
    provider.start(theirs)

    assert [view.worker_id for view in provider.list_workers(place.deployment)] == [ours.worker_id]
    assert [view.worker_id for view in provider.list_workers(theirs.deployment)] == [theirs.worker_id]
    assert provider.list_workers(f"{place.deployment}-nobody") == []


def test_workers_outlive_the_provider_object(place: Place) -> None:
    first = place.open()
    request = place.request()
    resource_id = first.start(request)
    first.close()

    second = place.open()

    assert second.inspect(request.worker_id).state is ResourceState.RUNNING
    assert second.start(request) == resource_id
    second.stop(request.worker_id)
    assert place.traces(request.worker_id) == []


def test_another_process_sees_and_stops_the_same_workers(place: Place) -> None:
    provider = place.open()
    request = place.request()
    resource_id = provider.start(request)

    seen = place.ask_from_another_process(f"provider.inspect(UUID('{request.worker_id}')).resource_id")
    listed = place.ask_from_another_process(f"len(provider.list_workers('{place.deployment}'))")
    place.ask_from_another_process(f"provider.stop(UUID('{request.worker_id}'))")

    assert (seen, listed) == (resource_id, 1)
    assert provider.inspect(request.worker_id).state is ResourceState.GONE


def test_a_worker_started_by_a_process_that_ended_lives_on(place: Place) -> None:
    request = place.request()
    fields = f"worker_id=UUID('{request.worker_id}'), one_time_token='t', deployment='{place.deployment}'"

    resource_id = place.ask_from_another_process(
        f"provider.start(__import__('hodei.providers.contract').providers.contract.WorkerRequest({fields}))"
    )

    seen = place.open().inspect(request.worker_id)
    assert (seen.state, seen.resource_id) == (ResourceState.RUNNING, resource_id)


def test_the_one_time_token_is_shown_nowhere(place: Place) -> None:
    provider = place.open()
    request = place.request()
    provider.start(request)

    shown = place.public_description(request.worker_id) + repr(request)
    shown += repr(provider.inspect(request.worker_id)) + repr(provider.list_workers(place.deployment))

    assert request.one_time_token not in shown


def test_a_missing_image_is_said_at_once_and_leaves_nothing(place: Place) -> None:
    if place.missing_image is None:
        pytest.skip("there are no images here")
    provider = place.open()
    request = place.request(image=place.missing_image)

    with pytest.raises(ImageMissing) as caught:
        provider.start(request)

    assert caught.value.image == place.missing_image
    assert caught.value.transient
    assert place.traces(request.worker_id) == []


def test_health_and_capabilities_are_told_in_sentences(place: Place) -> None:
    provider = place.open()

    health = provider.health()
    capabilities = provider.capabilities()

    assert health.ok
    assert health.message.endswith(".") and all(health.checks.values())
    assert capabilities.limits_reason is None or not (capabilities.cpu_limits and capabilities.memory_limits)


def test_limits_are_applied_or_refused_but_never_ignored(place: Place) -> None:
    provider = place.open()
    request = place.request(cpu=0.5, memory_bytes=128 * 1024**2)

    if provider.capabilities().memory_limits:
        provider.start(request)
        assert provider.inspect(request.worker_id).state is ResourceState.RUNNING
    else:
        with pytest.raises(ProviderError) as caught:
            provider.start(request)
        assert caught.value.failure.code == "ERR_3002"
        assert place.traces(request.worker_id) == []


def test_a_worker_fetches_its_job_runs_it_and_leaves(place: Place) -> None:
    platform = StandIn(place.host_for_workers, {"shell": "echo hello && exit 3"})
    try:
        provider = place.open(platform.address)
        request = place.request()

        provider.start(request)

        assert platform.finished.wait(FACT_S)
        assert platform.registered[0]["worker_id"] == str(request.worker_id)
        assert platform.output == b"hello\n"
        assert (platform.result["outcome"], platform.result["exit_code"]) == ("exited", 3)
        assert eventually(lambda: provider.inspect(request.worker_id).state is ResourceState.EXITED)
        seen = provider.inspect(request.worker_id)
        assert (seen.exit_code, seen.failure) == (0, None)
    finally:
        platform.close()


def test_stopping_ends_the_job_with_its_worker(place: Place) -> None:
    platform = StandIn(place.host_for_workers, {"shell": "sleep 600"})
    try:
        provider = place.open(platform.address)
        request = place.request()
        provider.start(request)
        assert platform.started.wait(FACT_S)

        provider.stop(request.worker_id, grace_s=5)

        assert platform.result["outcome"] == "worker_stopped"
        assert place.traces(request.worker_id) == []
    finally:
        platform.close()
