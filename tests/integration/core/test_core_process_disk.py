"""Workers as processes on a disk that is full, or that lost what was written last."""

from __future__ import annotations

import errno
from pathlib import Path
from uuid import uuid4

import pytest

from hodei.providers.contract import ProviderError, ResourceState, WorkerRequest
from hodei.providers.process.folder import Folder
from hodei.providers.process.provider import ProcessProvider

DEPLOYMENT = "d"


@pytest.fixture
def provider(tmp_path: Path) -> ProcessProvider:
    return ProcessProvider(
        uuid4(), server_url="http://127.0.0.1:1", data_dir=tmp_path, config={"hiding": "off"}
    )


@pytest.mark.parametrize("verb", ["make", "write"])
def test_a_disk_that_is_full_is_a_cause_and_leaves_nothing(
    provider: ProcessProvider, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    # given
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Folder, verb, full)
    request = WorkerRequest(worker_id=uuid4(), one_time_token="t", deployment=DEPLOYMENT)

    # when
    with pytest.raises(ProviderError, match=r"could not be started: .*No space left") as refused:
        provider.start(request)
    provider.stop(request.worker_id)

    # then
    assert (refused.value.failure.code, refused.value.transient) == ("ERR_5005", True)
    assert provider.list_workers(DEPLOYMENT) == []


@pytest.mark.parametrize("left", [b"", b"{", b"[]", b"{}", b"\xff"], ids=repr)
def test_a_folder_whose_record_cannot_be_read_is_listed_and_can_be_removed(
    provider: ProcessProvider, tmp_path: Path, left: bytes
) -> None:
    # given
    worker_id = uuid4()
    folder = Folder(tmp_path / "workers" / DEPLOYMENT / str(worker_id))
    folder.make()
    (folder.path / "worker.json").write_bytes(left)

    # then
    assert [view.worker_id for view in provider.list_workers(DEPLOYMENT)] == [worker_id]
    assert provider.inspect(worker_id).state is ResourceState.STARTING

    # when
    provider.stop(worker_id)

    # then
    assert not folder.path.exists()
