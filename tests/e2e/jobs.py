"""Phase 5: the five types of jobs, typed as people type them, each under the watch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from e2e import activity
from e2e.ledger import Ledger, Off, equal
from e2e.records import Submitted
from e2e.system import System

TYPED = {
    "test-echo": (
        r"""hodei job run --name test-echo --provider docker --command "echo 'Hello from Hodei Docker Worker!'" --timeout 30""",
        "Hello from Hodei Docker Worker!\n",
    ),
    "test-multicmd": (
        r"""hodei job run --name test-multicmd --provider docker --command "bash -c 'echo Step1 && sleep 1 && echo Step2 && sleep 1 && echo Step3'" --timeout 60""",
        "Step1\nStep2\nStep3\n",
    ),
    "test-long": (
        r"""hodei job run --name test-long --provider docker --command "for i in 1 2 3 4 5; do echo Iteration \$i; sleep 2; done" --timeout 120""",
        "Iteration 1\nIteration 2\nIteration 3\nIteration 4\nIteration 5\n",
    ),
    "test-env": (
        r"""hodei job run --name test-env --provider docker --command "bash -c 'echo MY_VAR=\$MY_VAR && echo NUM_VAR=\$NUM_VAR'" --env "MY_VAR=hello_world,NUM_VAR=42" --timeout 30""",
        "MY_VAR=hello_world\nNUM_VAR=42\n",
    ),
    "test-args": (
        r"""hodei job run --name test-args --provider docker --command "bash" --args "-c 'echo Processing file test.txt && echo Done'" --timeout 30""",
        "Processing file test.txt\nDone\n",
    ),
}  # fmt: skip


@dataclass(kw_only=True)
class Watcher:
    """Types a job's line, follows it to its end, and notes it before anything can go wrong with it."""

    ledger: Ledger
    system: System
    note: Callable[[Submitted], None]
    silence_s: float

    def run(self, name: str, line: str, output: str, *, provider: str = "docker") -> None:
        ids: list[str] = []
        if not self.ledger.prove(
            f"{name} is accepted: {line}", lambda: self._submit(name, line, output, provider, ids)
        ):
            return
        [job_id] = ids
        self.ledger.prove(
            f"{name} ends with 0 and is never silent for {self.silence_s:g} s",
            lambda: activity.accompany(self.system, [job_id], silence_s=self.silence_s)[job_id],
        )
        self.ledger.prove(f"{name} shows SUCCEEDED (Status Code: 4)", lambda: self._shown(job_id))
        self.ledger.prove(f"{name} wrote what it had to", lambda: self._wrote(job_id, output))

    def _submit(self, name: str, line: str, output: str, provider: str, ids: list[str]) -> str:
        done = self.system.typed(line)
        if done.returncode:
            raise Off(f"it ended with {done.returncode}: {done.stderr.strip()}")
        job_id = done.stdout.removesuffix("\n")
        ids.append(job_id)
        self.note(Submitted(id=job_id, name=name, provider=provider, output=output))
        return f"stdout is the job's id, and nothing else: {job_id}"

    def _shown(self, job_id: str) -> str:
        done = self.system.hodei("job", "get", "--id", job_id)
        if "Status: SUCCEEDED (Status Code: 4)" not in done.stdout.splitlines():
            raise Off((done.stdout + done.stderr).strip())
        return "hodei job get --id: Status: SUCCEEDED (Status Code: 4)"

    def _wrote(self, job_id: str, output: str) -> str:
        done = self.system.hodei("job", "logs", job_id)
        equal("hodei job logs", (done.stdout, done.stderr), (output, ""))
        return " / ".join(output.splitlines())


def check(watcher: Watcher) -> None:
    for name, (line, output) in TYPED.items():
        watcher.run(name, line, output)
