"""A job on the process provider, through the front door."""

from __future__ import annotations

from support.platform import RunningPlatform


def test_a_command_runs_and_its_output_and_exit_code_come_back(running: RunningPlatform) -> None:
    # when
    done = running.hodei(
        "job", "run", "--name", "t", "--provider", "process", "--command", "echo out; exit 3", "--wait"
    )

    # then
    job_id = done.stdout.strip()
    assert done.returncode == 3, done.stderr
    assert "out" in running.hodei("job", "logs", job_id).stdout
    shown = running.hodei("job", "get", "--id", job_id).stdout
    assert "Status: FAILED (Status Code: 5)" in shown
    assert "ERR_1007" in shown
