"""Settings, lease, commands, environment, outcomes, control groups and the process tree."""

from __future__ import annotations

import ast
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hodei_agent import cgroup, client, command, definition, job_environment, outcome, process_tree, settings
from hodei_agent.errors import BadDefinition
from hodei_agent.lease import Lease
from hodei_agent.registration import find_program, new_session_token

RUN = {"execution_id": "e", "job_id": "j", "attempt": 2, "fence": 3}


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("http://host:8082", settings.Server(False, "host", 8082, "")),
        ("host:8082", settings.Server(False, "host", 8082, "")),
        ("https://host", settings.Server(True, "host", 443, "")),
        ("https://host/base/", settings.Server(True, "host", 443, "/base")),
        ("http://[::1]:1", settings.Server(False, "::1", 1, "")),
    ],
)
def test_server_addresses_are_understood(text: str, server: settings.Server) -> None:
    assert settings.parse_server(text) == server
    assert settings.parse_server(server.url) == server


@pytest.mark.parametrize(
    "text", ["", "ftp://host", "http://", "http://host:x", "http://a@b", "http://host:99999"]
)
def test_a_wrong_server_address_is_named(text: str) -> None:
    with pytest.raises(settings.SettingsError, match="HODEI_SERVER"):
        settings.parse_server(text)


def test_the_settings_are_taken_out_of_the_environment() -> None:
    environment = {"HODEI_SERVER": "http://h:1", "HODEI_TOKEN": "t", "HODEI_WORKER_ID": "w", "PATH": "/bin"}

    ours = settings.read(environment, ["--hide", "/y", "--state-dir", "/x", "--hide=/z"])

    assert environment == {"PATH": "/bin"}
    assert (ours.token, ours.worker_id, ours.state_dir, ours.path) == ("t", "w", "/x", "/bin")
    assert ours.hidden == ("/y", "/z")


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc elsewhere")
def test_the_first_environment_loses_the_values_of_these_variables_alone() -> None:
    program = (
        "from hodei_agent.linux import wipe_environment; wipe_environment(['TOKEN']);"
        "print(open('/proc/self/environ', 'rb').read())"
    )
    env = {
        "PATH": "/a",
        "TOKEN": "a",
        "NOT_TOKEN": "a=TOKEN=a",
        "PYTHONPATH": str(Path(command.__file__).parents[1]),
    }

    seen = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True
    )

    shown = dict(part.split("=", 1) for part in ast.literal_eval(seen.stdout).decode().split("\0") if part)
    assert shown == env | {"TOKEN": "x"}


def test_a_lease_counts_from_when_the_answered_call_was_sent() -> None:
    now = [100.0]
    lease = Lease(900.0, lambda: now[0])
    lease.renew(100.0, 30.0)
    now[0] = 110.0
    assert lease.remaining_s == 20.0
    lease.renew(105.0)
    assert lease.remaining_s == 25.0
    lease.renew(101.0)  # an older call, answered late, takes nothing away
    assert lease.remaining_s == 25.0


def test_back_off_doubles_to_five_seconds_with_full_jitter() -> None:
    for failures, limit in ((1, 0.1), (2, 0.2), (5, 1.6), (7, 5.0), (10_000, 5.0)):
        pauses = [client.backoff_s(failures) for _ in range(200)]
        assert all(0 <= pause <= limit for pause in pauses)
        assert max(pauses) > limit / 2 > min(pauses)


def test_session_tokens_are_43_url_safe_characters() -> None:
    tokens = {new_session_token() for _ in range(100)}

    assert len(tokens) == 100
    assert all(len(t) == 43 and t.replace("-", "").replace("_", "").isalnum() for t in tokens)


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (b"#!/bin/bash\necho", [b"/bin/bash"]),
        (b"#! /usr/bin/env  python3 -u \n", [b"/usr/bin/env", b"python3 -u"]),
        (b"#!/bin/sh", [b"/bin/sh"]),
        (b"echo #!/bin/sh", []),
        (b"#!\n", []),
    ],
)
def test_the_first_line_of_a_script_is_read_as_the_kernel_does(script: bytes, expected: list[bytes]) -> None:
    assert command.interpreter(script) == expected


def test_arguments_that_were_split_are_executed_directly(tmp_path: Path) -> None:
    job = definition.read({**RUN, "argv": ["prog", "a b"], "args": ["$HOME"]})

    assert command.build(job, str(tmp_path / "script"), "/bin") == [b"prog", b"a b", b"$HOME"]


def test_a_shell_line_takes_bash_and_else_sh(tmp_path: Path) -> None:
    job = definition.read({**RUN, "shell": "echo"})
    only_sh = tmp_path / "sh"
    only_sh.touch(0o755)

    assert command.build(job, "x", os.environ["PATH"])[0].endswith(b"/bash")
    assert command.build(job, "x", str(tmp_path)) == [os.fsencode(only_sh), b"-c", b"echo"]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"shell": "a", "argv": ["b"]},
        {"argv": []},
        {"argv": [""]},
        {"argv": [1]},
        {"shell": "a\0b"},
        {"shell": "a", "env": {"": "x"}},
        {"shell": "a", "env": {"A": 1}},
        {"shell": "a", "secrets": {"A=B": "x"}},
        {"shell": "a", "args": "b"},
    ],
)
def test_a_definition_that_makes_no_sense_is_refused(fields: dict) -> None:
    with pytest.raises(BadDefinition):
        definition.check(definition.read({**RUN, **fields}))


def test_the_jobs_variables_win_over_the_defaults_but_not_over_its_identity() -> None:
    env = {"PATH": "/mine", "HODEI_JOB_ID": "forged", "S": "env"}
    job = definition.read({**RUN, "shell": "x", "env": env, "secrets": {"S": "secret"}})

    built = job_environment.build(job, job_environment.Folders("/r", "/r/home", "/r/tmp"), "/agents")

    assert built == {
        b"PATH": b"/mine",
        b"HOME": b"/r/home",
        b"LANG": b"C.UTF-8",
        b"TMPDIR": b"/r/tmp",
        b"HODEI_JOB_ID": b"j",
        b"HODEI_EXECUTION_ID": b"e",
        b"HODEI_ATTEMPT": b"2",
        b"HODEI_OUTPUT": b"/r/output",
        b"S": b"secret",
    }


def test_folders_are_private_and_can_be_removed_whatever_is_in_them(tmp_path: Path) -> None:
    state = job_environment.make_state_dir(str(tmp_path / "state"))
    folders = job_environment.make_folders(state, 1)
    assert all(Path(folder).stat().st_mode & 0o777 == 0o700 for folder in (state, *folders))
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()
    (Path(folders.home) / "link").symlink_to(outside)
    locked = Path(folders.home) / "locked"
    locked.mkdir()
    (locked / "file").touch()
    locked.chmod(0)

    job_environment.remove(state)

    assert (tmp_path / "state").exists() and not Path(state).exists()
    assert (outside / "file").exists()


def test_a_program_is_found_on_the_path() -> None:
    assert find_program("sh", "/nowhere:/bin") == "/bin/sh"
    assert find_program("sh", "") is None


@pytest.mark.parametrize(
    ("status", "oom", "name", "exit_code", "code"),
    [
        (0, True, "exited", 0, None),
        (3 << 8, False, "exited", 3, "ERR_1007"),
        (126 << 8, False, "exited", 126, "ERR_1002"),
        (127 << 8, False, "exited", 127, "ERR_1001"),
        (signal.SIGSEGV, False, "signalled", 139, "ERR_1006"),
        (signal.SIGKILL, False, "signalled", 137, "ERR_1006"),
        (signal.SIGKILL, True, "out_of_memory", 137, "ERR_1013"),
        (137 << 8, True, "out_of_memory", 137, "ERR_1013"),
        (1 << 8, True, "exited", 1, "ERR_1007"),
    ],
)
def test_ends_are_named(status: int, oom: bool, name: str, exit_code: int, code: str | None) -> None:
    ended = outcome.ended(status, oom_killed=oom)

    assert (ended.name, ended.exit_code, ended.error_code) == (name, exit_code, code)
    assert (ended.message is None) == (code is None)


V1_MOUNTS = """\
30 25 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw
35 30 0:31 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory
36 30 0:32 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct
"""
V2_MOUNT = "29 1 0:25 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw"


@pytest.mark.parametrize(
    ("controller", "mounts", "membership", "folder"),
    [
        ("memory", V1_MOUNTS, "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc", "/sys/fs/cgroup/memory"),
        ("cpuacct", V1_MOUNTS, "3:cpu,cpuacct:/docker/abc/sub", "/sys/fs/cgroup/cpu,cpuacct/sub"),
        ("memory", V1_MOUNTS, "4:memory:/other", "/sys/fs/cgroup/memory"),
        ("memory", V1_MOUNTS, "0::/x", None),
        ("", V2_MOUNT, "0::/", "/sys/fs/cgroup"),
        ("", V2_MOUNT, "0::/a/b", "/sys/fs/cgroup/a/b"),
        ("", V1_MOUNTS, "0::/", None),
    ],
)
def test_our_control_group_is_found(
    controller: str, mounts: str, membership: str, folder: str | None
) -> None:
    assert cgroup.folder_of(controller, mounts, membership) == folder


def test_version_1_is_read(tmp_path: Path) -> None:
    (tmp_path / "memory.usage_in_bytes").write_text("5000\n")
    (tmp_path / "memory.stat").write_text("cache 1\ntotal_inactive_file 2000\n")
    (tmp_path / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    (tmp_path / "cpuacct.usage").write_text("1500000000\n")

    assert cgroup.read_v1(str(tmp_path), str(tmp_path)) == cgroup.Usage(1.5, 3000, None)


def test_version_2_is_read(tmp_path: Path) -> None:
    (tmp_path / "memory.current").write_text("5000\n")
    (tmp_path / "memory.stat").write_text("inactive_file 1000\n")
    (tmp_path / "memory.max").write_text("8000\n")
    (tmp_path / "cpu.stat").write_text("usage_usec 2500000\nuser_usec 1\n")

    assert cgroup.read_v2(str(tmp_path)) == cgroup.Usage(2.5, 4000, 8000)


def test_a_group_with_strangers_in_it_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "cgroup.procs").write_text("1\n7\n9\n")

    assert cgroup.is_ours_alone(str(tmp_path), {1, 7, 9, 10})
    assert not cgroup.is_ours_alone(str(tmp_path), {1, 7})


def test_descendants_are_found_and_exactly_they_are_signalled() -> None:
    # given
    child = subprocess.Popen([sys.executable, "-c", TREE], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    grandchild = int(child.stdout.readline())
    # when
    found = {process.pid: process for process in process_tree.descendants(os.getpid())}
    # then
    assert found[grandchild].parent == child.pid
    stranger = found[grandchild]._replace(started=found[grandchild].started - 1)
    assert process_tree.send(stranger, signal.SIGKILL)
    assert child.poll() is None
    assert process_tree.send(found[grandchild], signal.SIGKILL)
    assert child.wait(10) == 9
    child.stdout.close()
    assert not process_tree.send(found[grandchild]._replace(pid=1), 0) or os.getuid() == 0


def test_without_pidfd_open_a_process_is_signalled_whosever_child_it_is_by_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Linux before 5.3 has none. TERM to a whole tree makes orphans of those that hear it last."""

    def missing(pid: int) -> int:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", missing)
    child = subprocess.Popen(["sleep", "60"])
    found = {process.pid: process for process in process_tree.descendants(os.getpid())}[child.pid]

    assert process_tree.send(found._replace(started=found.started - 1), signal.SIGKILL)
    assert child.poll() is None
    assert process_tree.send(found._replace(parent=1), signal.SIGTERM)
    assert child.wait(10) == -signal.SIGTERM


TREE = """
import os, sys, time
pid = os.fork()
if pid == 0:
    time.sleep(1000)
print(pid, flush=True)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) * -1)
"""
