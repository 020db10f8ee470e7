"""Output that waits: in order, once, and never more than allowed."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import NoReturn

import pytest
from hodei_agent import frames, outbox, spool
from hodei_agent.frames import Segment
from hodei_agent.outbox import Outbox
from hodei_agent.protocol import REMARK
from hodei_agent.spool import Spool
from hypothesis import given
from hypothesis import strategies as st


@given(st.lists(st.one_of(st.binary(min_size=1, max_size=3000), st.none()), max_size=60))
def test_a_spool_gives_back_what_it_took_in_order(
    tmp_path_factory: pytest.TempPathFactory, actions: list[bytes | None]
) -> None:
    store, stored = Spool(str(tmp_path_factory.getbasetemp())), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spool, "CHUNK_BYTES", 4000)
        for data in actions:
            if data is not None:
                stored.append((store.append(data), data))
            elif stored:
                record, expected = stored.pop(0)
                assert store.take(record) == expected
            assert store.size_bytes == sum(len(data) for _, data in stored)
    store.close()


def test_a_spool_leaves_no_file_behind(tmp_path: Path) -> None:
    store = Spool(str(tmp_path))
    store.append(b"secret output")

    assert list(tmp_path.iterdir()) == []
    store.close()


def test_a_spool_on_a_full_disk_says_so() -> None:
    with pytest.raises(OSError):
        Spool("/proc/no/such/folder").append(b"x")


def fill(box: Outbox, pieces: int, size: int = 50_000) -> int:
    """Put numbered pieces in until there is no room; return how many went in."""
    return sum(box.put(Segment(1, n, b"%08d" % n + bytes(size - 8))) for n in range(pieces))


def everything(box: Outbox) -> list[Segment]:
    box.end()
    found: list[Segment] = []
    while batches := box.take(1024 * 1024):
        for batch in batches:
            found += frames.segments_in(batch.plain)
            assert len(batch.plain) <= 1024 * 1024
    return found


def test_what_does_not_fit_in_memory_waits_on_disk_and_keeps_its_order(tmp_path: Path) -> None:
    box = Outbox(str(tmp_path), 64 * 1024 * 1024)

    assert fill(box, 400) == 400

    assert box.spool_bytes > 10_000_000
    assert [segment.at_us for segment in everything(box)] == list(range(400))
    assert box.spool_bytes == 0


def test_nothing_is_taken_beyond_the_limit_but_what_is_forced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "TAKING_S", 0.0)
    box = Outbox(str(tmp_path), 1024 * 1024)

    accepted = fill(box, 100)

    assert 15 <= accepted <= 1024 * 1024 // 50_000
    assert not box.has_room()
    assert box.put(Segment(3, 1000, b"remark"), force=True)
    assert [s.at_us for s in everything(box)] == [*range(accepted), 1000]
    assert box.has_room()


def test_while_the_platform_takes_output_a_full_box_asks_to_wait_and_drops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given: what was taken lately counts for as long as the test runs
    monkeypatch.setattr(outbox, "TAKING_S", 3600.0)
    box = Outbox(str(tmp_path), 1024 * 1024)
    assert box.is_ready()
    assert fill(box, 100) == 100
    assert not box.is_ready()
    # when
    taken = box.take(5_000_000)
    # then
    assert sum(len(batch.plain) for batch in taken) > 4_000_000
    assert box.is_ready()


def test_nobody_waits_for_a_platform_that_takes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "TAKING_S", 0.0)
    box = Outbox(str(tmp_path), 1024 * 1024)

    fill(box, 100)

    assert not box.has_room()
    assert box.is_ready()


def test_a_full_disk_is_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "TAKING_S", 0.0)
    box = Outbox(str(tmp_path / "missing"), 64 * 1024 * 1024)

    accepted = fill(box, 400)

    assert 0 < accepted < 110
    assert not box.has_room()
    assert [s.at_us for s in everything(box)] == list(range(accepted))


def no_answer(*_: object) -> NoReturn:
    raise OSError(errno.EIO, "Input/output error")


def test_what_a_disk_does_not_give_back_is_forgotten_with_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Spool(str(tmp_path))
    first, second = store.append(b"first"), store.append(b"second")
    with monkeypatch.context() as broken, pytest.raises(OSError, match="Input/output error"):
        broken.setattr(spool.os, "pread", no_answer)
        store.take(first)
    assert store.size_bytes == len(b"second")

    assert store.take(second) == b"second"

    assert open_files_in(tmp_path) == 0


def open_files_in(folder: Path) -> int:
    links = (os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink())
    return sum(link.startswith(f"{folder}/") for link in links)


def test_in_the_place_of_what_the_disk_does_not_give_back_a_remark_says_how_much_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given: 4 MiB in memory, and what is on the disk
    box = Outbox(str(tmp_path), 64 * 1024 * 1024)
    fill(box, 200)
    taken = box.take(4 * 1024 * 1024)
    # when
    with monkeypatch.context() as broken:
        broken.setattr(spool.os, "pread", no_answer)
        taken += box.take(256 * 1024)
    taken += box.take(64 * 1024 * 1024)
    # then
    found = [segment for batch in taken for segment in frames.segments_in(batch.plain)]
    (remark,) = [segment for segment in found if segment.stream == REMARK]
    assert box.lost_entries == box.lost_bytes // 50_000 == 200 - (len(found) - 1) > 0
    lost = b"%d lines (%d bytes) were dropped here" % (box.lost_entries, box.lost_bytes)
    assert lost in remark.data and b"Input/output error" in remark.data
    assert [segment.at_us for segment in found] == sorted(segment.at_us for segment in found)
    assert [batch.entries for batch in taken if batch.plain.endswith(remark.data)] == [1]


def test_the_taker_gets_a_small_piece_after_a_moment_or_at_once_when_flushed(tmp_path: Path) -> None:
    box = Outbox(str(tmp_path), 1024 * 1024)
    taken: list[list[outbox.Batch]] = []
    for act in (lambda: None, box.flush, box.end):
        thread = threading.Thread(target=lambda: taken.append(box.take(1024 * 1024)))
        thread.start()
        box.put(Segment(1, 0, b"line\n"))
        act()
        thread.join(5)

    assert [batch.entries for batches in taken for batch in batches] == [1, 1, 1]
    assert box.take(1) == []
