"""The errors that reach people. Each has a stable ``code``, an HTTP status, and says what to do."""

from __future__ import annotations

from typing import Any, ClassVar


class HodeiError(Exception):
    """Something went wrong that a person can be told about.

    ``message`` is one sentence that says what is wrong and what to do. ``field`` names the part of the request
    at fault, when there is one. Subclasses' docstrings are the message used when none is given.
    """

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 3

    def __init__(self, message: str | None = None, *, field: str | None = None, **extra: Any) -> None:
        self.message = message or " ".join((type(self).__doc__ or "").split())
        self.field = field
        self.extra = extra
        super().__init__(self.message)

    def to_problem(self) -> dict[str, Any]:
        """The body of an ``application/problem+json`` answer (RFC 9457)."""
        problem: dict[str, Any] = {
            "type": "about:blank",
            "title": self.code.replace("_", " ").capitalize(),
            "status": self.status,
            "code": self.code,
            "detail": self.message,
        }
        if self.field is not None:
            problem["field"] = self.field
        return problem | self.extra


class InvalidInput(HodeiError):
    """The request is not valid."""

    code = "invalid_input"
    status = 422
    exit_code = 2


class NotFound(HodeiError):
    """There is no such thing. Check the id."""

    code = "not_found"
    status = 404


class Conflict(HodeiError):
    """The state of the thing does not allow this."""

    code = "conflict"
    status = 409


class StaleAttempt(Conflict):
    """This attempt was superseded: end it and report nothing more for it."""

    code = "stale_attempt"


class LogExpired(HodeiError):
    """The log of this attempt has expired and is gone. HODEI_LOG_RETENTION says how long logs are kept."""

    code = "log_expired"
    status = 410


class Unauthorized(HodeiError):
    """The token is missing, wrong, used or expired."""

    code = "unauthorized"
    status = 401


class Forbidden(HodeiError):
    """This is not allowed from here."""

    code = "forbidden"
    status = 403


class PayloadTooLarge(HodeiError):
    """The request body is too large."""

    code = "payload_too_large"
    status = 413


class RequestTooSlow(HodeiError):
    """The request came too slowly and was given up. Send it again."""

    code = "request_timeout"
    status = 408


class UnsupportedMediaType(HodeiError):
    """Send the body with Content-Type: application/json."""

    code = "unsupported_media_type"
    status = 415


class UpgradeRequired(HodeiError):
    """The agent speaks a newer protocol than this server. Upgrade the server first."""

    code = "upgrade_required"
    status = 426


class DatabaseUnavailable(HodeiError):
    """The database cannot be reached. Check that Postgres runs and that HODEI_DATABASE_URL is right."""

    code = "database_unavailable"
    status = 503
    exit_code = 4


class SchemaMismatch(HodeiError):
    """The database's schema is not the one that this version needs."""

    code = "schema_mismatch"
    status = 503
    exit_code = 3


class ConfigurationError(HodeiError):
    """A setting is not valid."""

    code = "configuration"
    status = 500
    exit_code = 2


class PortTaken(HodeiError):
    """The port is taken. Stop what listens there or choose another with the setting that is named."""

    code = "port_taken"
    exit_code = 3
