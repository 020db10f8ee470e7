"""Where the platform is, and with which token it is spoken to."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Protocol
from urllib.parse import urlsplit

import typer

from hodei.cli import environment, output
from hodei.errors import InvalidInput

if TYPE_CHECKING:
    from hodei.client.client import HodeiClient
    from hodei.client.errors import ServerUnreachable

DEFAULT_URL = "http://127.0.0.1:8080"
LONGEST_PATIENCE_S = 3600.0

Server = Annotated[
    str | None,
    typer.Option(
        "--server", metavar="URL", help="Where the platform is (else HODEI_URL).", show_default=False
    ),
]
Token = Annotated[
    str | None,
    typer.Option(
        "--token", metavar="TOKEN", help="The API token (else HODEI_API_TOKEN).", show_default=False
    ),
]


class Noted(Protocol):
    """What ``hodei dev`` noted in the per-user state file."""

    @property
    def url(self) -> str: ...

    @property
    def token(self) -> str | None: ...


@dataclass(frozen=True, kw_only=True)
class Target:
    url: str
    token: str | None = field(default=None, repr=False)


def find(
    server: str | None,
    token: str | None,
    *,
    variables: Mapping[str, str],
    noted: Callable[[], Noted | None],
) -> Target:
    """``--server``, else HODEI_URL, else what ``hodei dev`` noted, else port 8080 of this machine.

    The noted token goes only to the noted URL.
    """
    note = noted()
    url = server or variables.get("HODEI_URL") or (note.url if note else DEFAULT_URL)
    if "://" not in url:
        url = f"http://{url}"
    url = url.rstrip("/")
    if not _is_address(url):
        raise InvalidInput(f"{url!r} is not a server's address such as {DEFAULT_URL}.", field="--server")
    if not token:
        token = variables.get("HODEI_API_TOKEN") or None
    if not token and note and url == note.url.rstrip("/"):
        token = note.token
    return Target(url=url, token=token)


def _is_address(url: str) -> bool:
    """Not brackets without an address, a port that is no number, a name that no host can have."""
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna").decode("idna")
        return url.startswith(("http://", "https://")) and host != "" and parts.port != 0
    except ValueError:
        return False


def connect(context: typer.Context, server: str | None, token: str | None) -> HodeiClient:
    """A client of the platform that the options, here or before the command, or the surroundings name."""
    from hodei.client.client import HodeiClient
    from hodei.embedded import state_file

    for sentence in environment.warnings(os.environ):
        output.say(f"Warning: {sentence}")
    early = context.find_root().obj or Target(url="")
    found = find(server or early.url, token or early.token, variables=os.environ, noted=state_file.read)
    return HodeiClient(
        found.url, found.token, patience_s=patience(os.environ.get("HODEI_PATIENCE")), waiting=_say_waiting
    )


def patience(text: str | None) -> float:
    """``HODEI_PATIENCE``, in seconds: ``30`` or ``30s``; ten where it is not set."""
    from hodei.client.transport import PATIENCE_S

    if not text:
        return PATIENCE_S
    try:
        seconds = float(text.strip().removesuffix("s"))
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= LONGEST_PATIENCE_S:
        raise InvalidInput(
            f"HODEI_PATIENCE={text} is not a number of seconds from 0 to {LONGEST_PATIENCE_S:g}.",
            field="HODEI_PATIENCE",
        )
    return seconds


def _say_waiting(failure: ServerUnreachable) -> None:
    reason = failure.message.partition(". ")[0]
    output.say(f"{reason}. Trying again ...")
