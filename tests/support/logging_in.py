#!/usr/bin/env python3
"""Run as a job: tries to log in to the embedded Postgres and Redis with all that it can find, and prints how far it came.

``DATA``: the data folder; ``SOCKETS``: where Postgres listens; ``REDIS_PORT``. Whatever it prints is no password.
"""

import json
import os
import re
import socket
from functools import partial

import psycopg2

DATA = os.environ["DATA"]
FILES = ("credentials.json", "connection.json", "secret.key", "redis/redis.conf")
words = {""}
reached = {"files": [], "folders": [], "logins": [], "refusals": 0}


def look_below(root):
    for name in FILES:
        path = f"{root}{DATA}/{name}"
        try:
            with open(path) as file:
                content = file.read()
        except OSError:
            continue
        if content:
            reached["files"].append(path)
            words.update(re.findall(r"[A-Za-z0-9_-]{32,44}", content))
    try:
        if os.listdir(f"{root}{DATA}/postgres"):
            reached["folders"].append(f"{root}{DATA}/postgres")
    except OSError:
        pass


def attempt(name, log_in, password):
    try:
        log_in(password)
    except (OSError, psycopg2.Error):
        reached["refusals"] += 1
    else:
        reached["logins"].append(name)


def postgres(role, place, password):
    psycopg2.connect(host=place, user=role, password=password, dbname="postgres", connect_timeout=5).close()


def redis(password):
    with socket.create_connection(("127.0.0.1", int(os.environ["REDIS_PORT"])), 5) as connection:
        connection.sendall((f"AUTH {password}\r\n" if password else "").encode() + b"PING\r\n")
        connection.settimeout(5)
        answer = connection.recv(256)
        if password and not answer.startswith(b"-"):
            answer += connection.recv(256) if b"PONG" not in answer else b""
        if b"+PONG" not in answer:
            raise OSError("refused")


look_below("")
for pid in filter(str.isdigit, os.listdir("/proc")):
    if int(pid) != os.getpid():
        look_below(f"/proc/{pid}/root")
for word in sorted(words):
    attempt("redis", redis, word)
    for role in ("hodei", "postgres"):
        for place in (os.environ["SOCKETS"], "127.0.0.1"):
            attempt(f"postgres as {role}", partial(postgres, role, place), word)
print(json.dumps(reached | {"env": sorted(os.environ), "below": sorted(os.listdir(DATA))}))
