"""Lists in pages: whatever is added while somebody turns them, nothing comes twice and nothing is missed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from support.core import Core

from hodei.domain.job import JobSpec
from hodei.errors import InvalidInput, NotFound
from hodei.services import history, jobs, providers
from hodei.services.filters import EventFilter, JobFilter
from hodei.services.paging import Page, encode_name
from hodei.services.submit import NewJob, submit_job


def turned(ask: Callable[..., Page], *, meanwhile: Callable[[], object], limit: int = 1) -> list[Any]:
    """The ids of a whole list, page after page, with something added before each turn."""
    found, cursor = [], None
    while True:
        page = ask(cursor=cursor, limit=limit)
        assert len(page.items) <= limit
        found += [item["id"] for item in page.items]
        cursor = page.next_cursor
        if cursor is None or len(found) > 50:
            return found
        meanwhile()


def test_newest_first_what_comes_later_is_not_seen_and_the_rest_is_whole(core: Core) -> None:
    made = [core.submit() for _ in range(5)]

    def ask(**page: Any) -> Page:
        return jobs.list_jobs(core.platform, JobFilter(), **page)

    found = turned(ask, meanwhile=core.submit, limit=2)

    assert found == list(reversed(made))


@pytest.mark.parametrize("near", [1, 3, 5, 5000])
@pytest.mark.parametrize(("bounds", "expected"), [((0, 12), 4), ((2, 12), 3), ((0, 7), 3), ((5, 5), 0)])
def test_jobs_with_a_label_are_found_near_and_far(
    core: Core, monkeypatch: pytest.MonkeyPatch, near: int, bounds: tuple[int, int], expected: int
) -> None:
    # given one in three that has it, and from when to when they are wanted
    monkeypatch.setattr(jobs, "NEAR", near)
    made = [
        submit_job(
            core.platform,
            NewJob(name="t", labels={"kind": "abc"[number % 3], "all": "yes"}, spec=JobSpec(command="true")),
            actor="test",
            request_id=None,
        )["id"]
        for number in range(12)
    ]
    at = [row.created_at for row in core.sql("SELECT created_at FROM jobs ORDER BY created_at")]
    since, until = at[bounds[0]], at[bounds[1]] if bounds[1] < len(at) else None
    wanted = JobFilter(label={"kind": "a", "all": "yes"}, since=since, until=until)

    found = turned(
        lambda **page: jobs.list_jobs(core.platform, wanted, **page), meanwhile=lambda: None, limit=2
    )

    assert len(found) == expected
    assert found == [made[number] for number in reversed(range(*bounds)) if number % 3 == 0]


def test_oldest_first_what_comes_later_comes_last(core: Core) -> None:
    core.submit()
    added = iter(range(5))

    def ask(**page: Any) -> Page:
        return history.list_events(core.platform, EventFilter(event_type="JobCreated"), **page)

    core.submit()
    found = turned(ask, meanwhile=lambda: core.submit() if next(added, None) is not None else None)

    rows = core.sql("SELECT id FROM domain_events WHERE event_type = 'JobCreated' ORDER BY occurred_at")
    assert found == [row.id for row in rows]
    assert len(found) == 7


@pytest.mark.parametrize("what", ["events", "sagas", "executions"])
def test_what_is_remembered_of_a_job_comes_in_pages_oldest_first(core: Core, what: str) -> None:
    # given a job that failed and is tried again while its records are read
    core.provider("here")
    job_id, worker_id = core.to_running_worker("here", retries=1)
    core.perform(worker_id, exit_code=3)
    ask = getattr(history, f"job_{what}")
    before = [item["id"] for item in ask(core.platform, job_id, limit=500).items]
    others = iter([core.submit("here")])

    # when
    found = turned(
        lambda **page: ask(core.platform, job_id, **page),
        meanwhile=lambda: core.drain() if next(others, None) else None,
    )

    # then
    whole = [item["id"] for item in ask(core.platform, job_id, limit=500).items]
    assert found == whole
    assert found[: len(before)] == before
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("what", ["events", "sagas", "executions"])
def test_a_page_of_what_no_job_has_is_not_found(core: Core, what: str) -> None:
    with pytest.raises(NotFound):
        getattr(history, f"job_{what}")(core.platform, uuid4())


def test_providers_come_in_the_order_of_dispatch_however_many_are_added(core: Core) -> None:
    ids = [core.provider(name) for name in ("b", "d", "f")]
    core.sql("UPDATE provider_configs SET priority = 7 WHERE name = 'f'")
    added = iter("ac")

    def add() -> None:
        name = next(added, None)
        if name is not None:
            core.provider(name)

    found = turned(lambda **page: providers.list_providers(core.platform, **page), meanwhile=add)

    shown = [
        row.name for row in core.sql("SELECT id, name FROM provider_configs ORDER BY priority DESC, name")
    ]
    assert shown == ["f", "a", "b", "c", "d"]
    assert [one for one in found if one in ids] == [ids[2], ids[0], ids[1]]
    assert len(set(found)) == len(found) == 5


@pytest.mark.parametrize("cursor", ["!", "AA", encode_name(1, "a\0"), encode_name(10**9, "a"), "é"])
def test_a_cursor_that_no_page_gave_is_refused(core: Core, cursor: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        providers.list_providers(core.platform, cursor=cursor)

    assert refused.value.field == "cursor"
