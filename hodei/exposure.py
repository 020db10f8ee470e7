"""Who can reach what listens here: loopback needs no token, everything else does."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from hodei.errors import ConfigurationError
from hodei.settings import Settings

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


def check_exposure(settings: Settings) -> None:
    """Raises ConfigurationError when everybody on the network could run commands here without a token."""
    if settings.api_token or settings.allow_unauthenticated or is_loopback(settings.bind):
        return
    raise ConfigurationError(
        f"HODEI_BIND={settings.bind} would let everybody who reaches it run commands: set HODEI_API_TOKEN "
        "(or HODEI_ALLOW_UNAUTHENTICATED=1 where the network is trusted).",
        field="HODEI_BIND",
    )


def flower_credentials(settings: Settings) -> str | None:
    """``user:password`` of Flower: its own, else the operators' token for the user ``hodei``. None: open, on loopback.

    Raises ConfigurationError when everybody on the network could look at it.
    """
    if settings.flower_basic_auth:
        return settings.flower_basic_auth
    if settings.api_token:
        return f"hodei:{settings.api_token}"
    if settings.allow_unauthenticated or is_loopback(settings.bind):
        return None
    raise ConfigurationError(
        f"HODEI_BIND={settings.bind} would let everybody on the network see Flower: set HODEI_FLOWER_BASIC_AUTH=user:password, "
        "or HODEI_API_TOKEN (or HODEI_ALLOW_UNAUTHENTICATED=1 where the network is trusted).",
        field="HODEI_FLOWER_BASIC_AUTH",
    )


def host_in(value: str) -> str:
    """The host of ``host``, ``host:port``, ``[v6]:port`` or a URL, in lower case; empty without one."""
    netloc = urlsplit(value).netloc if "://" in value else value
    if is_address(netloc):
        return netloc.lower()
    try:
        return (urlsplit(f"//{netloc}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def is_address(host: str) -> bool:
    """True for a literal IP address, which no DNS answer can rebind."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """True for names and addresses that only this machine has."""
    return host in LOOPBACK_NAMES or (is_address(host) and ip_address(host).is_loopback)
