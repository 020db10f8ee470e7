#!/usr/bin/env python3
"""Run as a job of root: tries to get at the platform's database by the ways that only root has, and prints which went.

``DATA``: the data folder; ``SERVERS``: the user of the embedded servers; ``SOCKETS``: where Postgres listens;
``OBEDIENT``: sockets of programs that would start a process for us, separated by ``:``. It changes nothing.
"""

import json
import os
import pwd
import socket
import subprocess

DATA = os.environ["DATA"]
account = pwd.getpwnam(os.environ["SERVERS"])
went = []


def attempt(name, action):
    """In a child, so that one way's success does not change the next one's."""
    pid = os.fork()
    if pid == 0:
        try:
            action()
        except (OSError, subprocess.CalledProcessError):
            os._exit(1)
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0:
        went.append(name)


def become(user, group):
    os.setgroups([])
    os.setgid(group)
    os.setuid(user)


def run(*words):
    subprocess.run(words, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=20)


def through_another_process():
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.listdir(f"/proc/{pid}/root{DATA}/postgres"):
                return
        except OSError:
            continue
    raise OSError("no process shows it")


def as_them_through_their_process():
    become(account.pw_uid, account.pw_gid)
    through_another_process()


def open_configuration():
    with open(f"{DATA}/postgres/data/pg_hba.conf", "r+"):
        pass


def connect(path):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)


def make_device():
    path = os.path.join(os.environ["TMPDIR"], "device")
    os.mknod(path, 0o600 | 0o060000, os.makedev(1, 0))
    os.unlink(path)


attempt("become the servers' user", lambda: become(account.pw_uid, account.pw_gid))
attempt("become nobody", lambda: become(65534, 65534))
attempt("setpriv", lambda: run("setpriv", "--reuid", account.pw_name, "--clear-groups", "true"))
attempt("su", lambda: run("su", "-s", "/bin/sh", account.pw_name, "-c", "true"))
attempt("unshare", lambda: run("unshare", "-Urm", "ls", f"{DATA}/postgres"))
attempt("nsenter", lambda: run("nsenter", "-t", str(os.getppid()), "-m", "ls", f"{DATA}/postgres"))
attempt("through another process", through_another_process)
attempt("as the servers' user through their process", as_them_through_their_process)
attempt("open pg_hba.conf", open_configuration)
attempt("list the data folder", lambda: os.listdir(f"{DATA}/postgres/data"))
attempt("Postgres' socket", lambda: connect(f"{os.environ['SOCKETS']}/.s.PGSQL.5432"))
attempt("make a device", make_device)
for path in filter(None, os.environ["OBEDIENT"].split(":")):
    attempt(f"connect to {path}", lambda path=path: connect(path))
print(json.dumps({"went": went, "uid": os.getuid()}))
