"""What the agent is told at its start, by variables or flags."""

from __future__ import annotations

import os
from typing import MutableMapping, NamedTuple

USAGE = (
    "usage: hodei-agent --server URL [--token TOKEN | --token-file PATH] [--state-dir PATH] [--hide PATH]... "
    "(or HODEI_SERVER, HODEI_TOKEN and, in a worker that the platform made, HODEI_WORKER_ID)"
)
TOKEN_PREFIX = "hsw_"
"""The token of a self-hosted worker says which one it is for: prefix, the worker's id, a secret."""
NAMES = ("HODEI_SERVER", "HODEI_TOKEN", "HODEI_WORKER_ID")


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
    """The settings of one agent. `self_hosted`: a person started it, and what is missing here was kept from before."""

    server: Server | None
    token: str
    worker_id: str
    state_dir: str | None
    path: str
    hidden: tuple[str, ...]
    self_hosted: bool = False


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
    `--hide` names what jobs must not see, as often as needed. A token in the arguments is for people at a terminal: it is
    worth nothing once it is spent.
    """
    values = {name: environment.pop(name, "") for name in NAMES}
    state_dir = None
    hidden = []
    rest = list(arguments)
    while rest:
        flag, _, value = rest.pop(0).partition("=")
        if flag not in ("--state-dir", "--hide", "--server", "--token", "--token-file") or not (
            value or rest
        ):
            raise SettingsError(USAGE)
        value = value or rest.pop(0)
        if flag == "--hide":
            hidden.append(os.path.abspath(value))
        elif flag == "--state-dir":
            state_dir = os.path.abspath(value)
        elif flag == "--token-file":
            values["HODEI_TOKEN"] = _first_line(value)
        else:
            values["HODEI_" + flag[2:].upper()] = value
    server, token, worker_id = (values[name] for name in NAMES)
    if not token.isascii() or not token.isprintable() or " " in token:
        raise SettingsError("HODEI_TOKEN holds characters that no token has")
    self_hosted = not worker_id
    if self_hosted and token:
        worker_id = _worker_in(token)
    if not self_hosted and not (server and token):
        raise SettingsError(f"{', '.join(name for name in NAMES if not values[name])} not set; {USAGE}")
    return Settings(
        parse_server(server) if server else None,
        token,
        worker_id,
        state_dir,
        environment.get("PATH", ""),
        tuple(hidden),
        self_hosted,
    )


def _worker_in(token: str) -> str:
    """The worker that the token of a self-hosted one is for. Raises SettingsError."""
    number = token[len(TOKEN_PREFIX) :].partition("_")[0]
    if not token.startswith(TOKEN_PREFIX) or len(number) != 32 or not number.isalnum():
        raise SettingsError(
            f"HODEI_WORKER_ID is not set, and the token is none of a self-hosted worker; {USAGE}"
        )
    return "-".join((number[:8], number[8:12], number[12:16], number[16:20], number[20:]))


def _first_line(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.readline().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"the token cannot be read from {path}: {error}") from None
