#!/usr/bin/env python3
"""Run as a job: looks everywhere for what it must not find, and prints the SHA-256 of all that could be it.

``PRY_IN``: folders to read, separated by ``:``. Every word of 43 URL-safe characters (how tokens look) in files, in the
environments of other processes and in the memory of those above it, and each value of those environments, is hashed.
"""

import hashlib
import json
import os
import re

TOKEN = re.compile(rb"(?<![A-Za-z0-9_-])[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])")
found = {}
"""SHA-256 → where the first such word was."""
read = {"environments": [], "memories": [], "files": 0}


def note(content, place):
    for word in TOKEN.findall(content):
        found.setdefault(hashlib.sha256(word).hexdigest(), place)


def environments():
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                content = file.read()
        except OSError:
            continue
        if int(pid) != os.getpid():
            read["environments"].append(int(pid))
            for part in content.split(b"\0"):
                name, _, value = part.partition(b"=")
                found.setdefault(hashlib.sha256(value).hexdigest(), f"{name.decode()} of process {pid}")
        note(content, f"the environment of process {pid}")


def above(pid):
    while pid > 0:
        yield pid
        try:
            with open(f"/proc/{pid}/stat") as file:
                pid = int(file.read().rpartition(")")[2].split()[1])
        except OSError:
            return


def memory(pid):
    try:
        with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb") as mem:
            for line in maps:
                area, mode = line.split()[:2]
                start, end = (int(part, 16) for part in area.split("-"))
                if mode.startswith("rw") and end - start < 256 * 1024 * 1024:
                    try:
                        mem.seek(start)
                        note(mem.read(end - start), f"the memory of process {pid}")
                    except (OSError, ValueError):
                        continue
    except OSError:
        return
    read["memories"].append(pid)


def files():
    for root in filter(None, os.environ.get("PRY_IN", "").split(":")):
        for folder, _, names in os.walk(root):
            for name in names:
                path = os.path.join(folder, name)
                try:
                    if os.path.isfile(path) and os.path.getsize(path) < 4 * 1024 * 1024:
                        with open(path, "rb") as file:
                            note(file.read(), path)
                        read["files"] += 1
                except OSError:
                    continue


environments()
for pid in above(os.getpid()):
    memory(pid)
files()
print(
    json.dumps(
        {
            "found": found,
            "read": read,
            "me": os.getpid(),
            "env": dict(os.environ),
            "cwd": os.getcwd(),
            "in_home": os.listdir("."),
            "uid": os.getuid(),
        }
    )
)
