"""What the agent is told at its start: three variables and two flags."""

from __future__ import annotations

import os
from typing import MutableMapping, NamedTuple

USAGE = "usage: hodei-agent [--hide PATH]... [--state-dir PATH]   (and HODEI_SERVER, HODEI_TOKEN, HODEI_WORKER_ID)"


class SettingsError(ValueError):
    """A setting is missing or makes no sense. Its text is one sentence for a person."""


class Server(NamedTuple):
    """Where `worker-manager` is."""

    tls: bool
    host: str
    port: int
    base_path: str

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}{self.base_path}"


class Settings(NamedTuple):
    """The settings of one agent."""

    server: Server
    token: str
    worker_id: str
    state_dir: str | None
    path: str
    hidden: tuple[str, ...]


def parse_server(text: str) -> Server:
    """Read `http://host:port/base`, `https://…` or `host:port`. Raises SettingsError."""
    scheme, separator, rest = text.strip().partition("://")
    if not separator:
        scheme, rest = "http", scheme
    authority, slash, path = rest.partition("/")
    if scheme not in ("http", "https") or not authority or "@" in authority:
        raise SettingsError(f"HODEI_SERVER is not an http or https URL: {text!r}")
    tls = scheme == "https"
    host, port = authority, ""
    if authority.startswith("["):
        host, _, port = authority[1:].partition("]")
        port = port[1:]
    elif ":" in authority:
        host, _, port = authority.rpartition(":")
    try:
        number = int(port) if port else (443 if tls else 80)
    except ValueError:
        number = 0
    if not host or not 0 < number < 65536:
        raise SettingsError(f"HODEI_SERVER has no valid host and port: {text!r}")
    return Server(tls, host, number, (slash + path).rstrip("/"))


def read(environment: MutableMapping[str, str], arguments: list[str]) -> Settings:
    """Read the settings and remove them from `environment`. Raises SettingsError.

    What was in the environment at exec stays in `/proc/<pid>/environ`: :func:`hodei_agent.linux.make_undumpable`
    closes that, :func:`hodei_agent.linux.wipe_environment` empties it, and the registration spends the token.
    `--hide` names what jobs must not see, as often as needed. Nothing secret is ever taken from arguments.
    """
    values = [environment.pop(name, "") for name in ("HODEI_SERVER", "HODEI_TOKEN", "HODEI_WORKER_ID")]
    names = ("HODEI_SERVER", "HODEI_TOKEN", "HODEI_WORKER_ID")
    state_dir = None
    hidden = []
    rest = list(arguments)
    while rest:
        flag, _, value = rest.pop(0).partition("=")
        if flag not in ("--state-dir", "--hide") or not (value or rest):
            raise SettingsError(USAGE)
        path = os.path.abspath(value or rest.pop(0))
        if flag == "--hide":
            hidden.append(path)
        else:
            state_dir = path
    missing = [names[i] for i in range(3) if not values[i]]
    if missing:
        raise SettingsError(f"{', '.join(missing)} not set; {USAGE}")
    server, token, worker_id = values
    if not token.isascii() or not token.isprintable() or " " in token:
        raise SettingsError("HODEI_TOKEN holds characters that no token has")
    return Settings(
        parse_server(server), token, worker_id, state_dir, environment.get("PATH", ""), tuple(hidden)
    )
