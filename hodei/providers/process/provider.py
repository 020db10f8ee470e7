"""The process provider: the contract's verbs over folders and processes."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

from hodei.domain.causes import Failure
from hodei.providers.configuration import read_config
from hodei.providers.contract import (
    Capabilities,
    Health,
    ProviderError,
    ResourceState,
    ResourceView,
    WorkerRequest,
)
from hodei.providers.exits import agent_exit
from hodei.providers.process import agent, proc, remains, tree
from hodei.providers.process.cgroup import Cgroups
from hodei.providers.process.config import ProcessConfig
from hodei.providers.process.folder import Folder, Folders, Record
from hodei.providers.process.hiding import Hiding
from hodei.providers.process.proc import Process

EXIT_NOTED_S = 0.2


class ProcessProvider:
    """Workers as processes of this machine, found by their folders. Safe to share between threads."""

    provider_type = "process"

    def __init__(
        self,
        provider_id: UUID,
        *,
        server_url: str,
        data_dir: Path,
        config: dict[str, Any] | None = None,
        secret: Callable[[], Sequence[Path]] = tuple,
    ) -> None:
        """``secret`` names the files and folders that no job may see; it is asked for each worker."""
        self.provider_id = provider_id
        self.server_url = server_url
        self.config = read_config(ProcessConfig, config)
        self._folders = Folders(data_dir)
        self._hiding = Hiding(self.config.hiding, secret, self._folders.root)
        self._cgroups = Cgroups() if self.config.cgroups else None
        self._limits_reason = "config.cgroups is off" if self._cgroups is None else self._cgroups.reason

    def start(self, request: WorkerRequest) -> str:
        """Start the agent, or find the one that an earlier try started."""
        if request.image is not None:
            message = f"Processes have no images: leave the image {request.image} out, or use Docker."
            raise ProviderError(Failure(code="ERR_1010", message=message))
        limited = request.cpu is not None or request.memory_bytes is not None
        if limited and self._limits_reason:
            message = f"Processes cannot be given --cpu or --memory on this machine: {self._limits_reason}."
            raise ProviderError(Failure(code="ERR_3002", message=message))
        hidden = self._hiding.paths()
        if refusal := self._hiding.refusal():
            raise ProviderError(Failure(code="ERR_1010", message=refusal))
        folder = self._folders.of(request.deployment, request.worker_id)
        try:
            with self._folders.locked(request.deployment):
                return str(self._started(folder, request, hidden, limited=limited))
        except OSError as error:
            raise _not_started(error) from error

    def _started(
        self, folder: Folder, request: WorkerRequest, hidden: Sequence[Path], *, limited: bool
    ) -> int:
        is_new = not folder.path.exists()
        folder.make()
        record = folder.read()
        if record is not None and record.pid is not None:
            return record.pid
        if record is None:
            record = self._new_record(request, limited=limited)
            folder.write(record)
        found = None if is_new else tree.find_agent(folder)
        return self._complete(folder, record, found or self._spawn(folder, request, hidden))

    def prepare(self, image: str) -> None:
        """Nothing: processes have no images."""

    def inspect(self, worker_id: UUID) -> ResourceView:
        folder = self._folders.find(worker_id)
        if folder is None:
            return ResourceView(worker_id=worker_id, state=ResourceState.GONE)
        return self._view(folder)

    def stop(self, worker_id: UUID, *, grace_s: float = 0.0) -> None:
        """End all processes of the worker and remove its folder; what cannot be removed of that is said in the log, and
        holds up nothing. Raises ProviderError (ERR_5006, ERR_5008)."""
        folder = self._folders.find(worker_id)
        left = None if folder is None else self._ended(folder, grace_s=grace_s)
        self._remove_group(worker_id)
        if left is not None:
            remains.remove(left)
        for other in remains.abandoned(self._folders.root):
            remains.remove(other)

    def _ended(self, folder: Folder, *, grace_s: float) -> Path | None:
        """Where the folder is that was this worker's; None when another process was faster."""
        deployment = folder.path.parent.name
        with self._folders.locked(deployment):  # not while a start is half-way
            found = self._process(folder, folder.read())
        tree.end(folder, found, self._groups(), grace_s=grace_s)
        with self._folders.locked(deployment):
            try:
                return remains.put_aside(folder.path)
            except FileNotFoundError:
                return None
            except OSError as error:
                message = f"The folder {folder.path} cannot be moved ({error.strerror}); remove it by hand."
                raise ProviderError(Failure(code="ERR_5008", message=message)) from error

    def list_workers(self, deployment: str) -> list[ResourceView]:
        views = (self._view(folder) for folder in self._folders.in_deployment(deployment))
        return [view for view in views if view.state is not ResourceState.GONE]

    def health(self) -> Health:
        if sys.platform != "linux":
            message = "Workers as processes need Linux; use Docker here."
            return Health(ok=False, message=message, checks={"platform": message})
        try:
            self._folders.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            probe = self._folders.root / ".writable"
            probe.touch()
            agent.agent_folder()
        except (OSError, ModuleNotFoundError) as error:
            message = f"Workers cannot be started as processes: {error}"
            return Health(ok=False, message=message, checks={"folder": message})
        user = "root" if os.geteuid() == 0 else "this user"
        message = f"Workers are processes of {user}, in {self._folders.root}; only for jobs that you trust."
        limits = self._limits_reason or "CPU and memory limits are applied with cgroups."
        ok, hiding = self._hiding.check()
        checks = {"folder": message, "limits": limits, "hiding": hiding}
        if warning := self._hiding.warning():
            message = f"{message} {warning}" if ok else warning
        return Health(ok=ok, message=message, checks=checks)

    def capabilities(self) -> Capabilities:
        limits = self._limits_reason is None
        return Capabilities(
            images=False, cpu_limits=limits, memory_limits=limits, limits_reason=self._limits_reason
        )

    def close(self) -> None:
        """Nothing is held open. Workers go on."""

    def _new_record(self, request: WorkerRequest, *, limited: bool) -> Record:
        job_id = str(request.job_id) if request.job_id else None
        return Record(
            worker_id=str(request.worker_id), job_id=job_id, boot_id=proc.boot_id(), limited=limited
        )

    def _complete(self, folder: Folder, record: Record, found: Process) -> int:
        folder.write(replace(record, pid=found.pid, started=found.started, boot_id=proc.boot_id()))
        return found.pid

    def _spawn(self, folder: Folder, request: WorkerRequest, hidden: Sequence[Path]) -> Process:
        groups = self._groups()
        name = folder.path.name
        try:
            if groups:
                groups.make(name, cpu=request.cpu, memory_bytes=request.memory_bytes)
            pid = agent.spawn(folder, request, self.server_url, hidden)
            if groups:
                groups.add(name, pid)  # long before the agent starts anything
        except OSError as error:
            tree.end(folder, None, groups, grace_s=0)
            self._remove_group(folder.worker_id)
            remains.remove(remains.put_aside(folder.path))
            raise _not_started(error) from error
        seen = proc.look(pid)
        return seen.process if seen else Process(pid, 0)

    def _process(self, folder: Folder, record: Record | None) -> Process | None:
        """The worker's agent, None when it was never started or ended before the last boot."""
        if record is None or record.process is None:
            return tree.find_agent(folder)
        return record.process if record.boot_id == proc.boot_id() else None

    def _view(self, folder: Folder) -> ResourceView:
        record = folder.read()
        if record is None and not folder.path.exists():
            return ResourceView(worker_id=folder.worker_id, state=ResourceState.GONE)
        process = self._process(folder, record)
        resource_id = str(process.pid) if process else str(record.pid) if record and record.pid else None
        if process is not None and proc.is_alive(process):
            return ResourceView(
                worker_id=folder.worker_id, state=ResourceState.RUNNING, resource_id=resource_id
            )
        if resource_id is None:
            return ResourceView(worker_id=folder.worker_id, state=ResourceState.STARTING)
        code = self._exit_code(folder, process)
        return ResourceView(
            worker_id=folder.worker_id,
            state=ResourceState.EXITED,
            resource_id=resource_id,
            exit_code=code,
            failure=agent_exit(code),
        )

    def _exit_code(self, folder: Folder, process: Process | None) -> int | None:
        """The agent's exit code; waits a moment for it when the process that started it is just about to note
        it."""
        code = folder.exit_code()
        deadline = time.monotonic() + EXIT_NOTED_S
        while code is None and process and proc.look(process.pid) and time.monotonic() < deadline:
            time.sleep(0.002)
            code = folder.exit_code()
        return code

    def _groups(self) -> Cgroups | None:
        return None if self._limits_reason else self._cgroups

    def _remove_group(self, worker_id: UUID) -> None:
        groups = self._groups()
        if groups:
            groups.remove(str(worker_id))


def _not_started(error: OSError) -> ProviderError:
    message = f"The worker's process could not be started: {error}"
    return ProviderError(Failure(code="ERR_5005", message=message), transient=True)
