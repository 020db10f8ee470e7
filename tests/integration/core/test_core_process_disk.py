"""Workers as processes on a disk that is full, or that lost what was written last."""

from __future__ import annotations

import errno
from pathlib import Path
from uuid import uuid4

import pytest

from hodei.providers.contract import ProviderError, WorkerRequest
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
