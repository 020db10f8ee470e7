"""What the API server refuses: an exception for each reason, with the Status object that goes over the wire."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Refusal(Exception):
    """An answer that is no success: an HTTP status and a ``Status``."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        details: dict[str, Any] | None = None,
        retry_after_s: int = 0,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details or {}
        self.retry_after_s = retry_after_s

    def status(self) -> dict[str, Any]:
        body = status("Failure", code=self.code, message=self.message, reason=self.reason)
        details = self.details | ({"retryAfterSeconds": self.retry_after_s} if self.retry_after_s else {})
        return body | ({"details": details} if details else {})


def status(outcome: str, **fields: Any) -> dict[str, Any]:
    """A ``Status`` object: ``Success`` or ``Failure``."""
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": outcome, **fields}


def _details(group: str, plural: str, name: str) -> dict[str, Any]:
    found = {"name": name, "group": group, "kind": plural}
    return {key: value for key, value in found.items() if value}


def _qualified(group: str, plural: str) -> str:
    return f"{plural}.{group}" if group else plural


def not_found(group: str, plural: str, name: str) -> Refusal:
    message = f'{_qualified(group, plural)} "{name}" not found'
    return Refusal(404, "NotFound", message, details=_details(group, plural, name))


def no_such_path() -> Refusal:
    return Refusal(404, "NotFound", "the server could not find the requested resource", details={})


def already_exists(group: str, plural: str, name: str, *, going: bool = False) -> Refusal:
    """``going``: what has the name is being deleted."""
    message = (
        f'{"object is being deleted: " if going else ""}{_qualified(group, plural)} "{name}" already exists'
    )
    return Refusal(409, "AlreadyExists", message, details=_details(group, plural, name))


def conflict(group: str, plural: str, name: str, why: str = "") -> Refusal:
    why = why or "the object has been modified; please apply your changes to the latest version and try again"
    message = f'Operation cannot be fulfilled on {_qualified(group, plural)} "{name}": {why}'
    return Refusal(409, "Conflict", message, details=_details(group, plural, name))


def forbidden(group: str, plural: str, name: str, why: str) -> Refusal:
    subject = f'{_qualified(group, plural)} "{name}"' if name else _qualified(group, plural)
    return Refusal(403, "Forbidden", f"{subject} is forbidden: {why}", details=_details(group, plural, name))


def forbidden_path(user: str, verb: str, path: str) -> Refusal:
    return Refusal(403, "Forbidden", f'forbidden: User "{user}" cannot {verb} path "{path}"')


def unauthorized() -> Refusal:
    return Refusal(401, "Unauthorized", "Unauthorized")


def bad_request(message: str) -> Refusal:
    return Refusal(400, "BadRequest", message)


def invalid(group: str, kind: str, name: str, causes: Sequence[Cause]) -> Refusal:
    """422: each cause is a field and what is wrong with it."""
    lines = [cause.sentence for cause in causes]
    said = lines[0] if len(lines) == 1 else f"[{', '.join(lines)}]"
    subject = f"{kind}.{group}" if group else kind
    details = {"name": name, "group": group, "kind": kind, "causes": [cause.document() for cause in causes]}
    return Refusal(
        422,
        "Invalid",
        f'{subject} "{name}" is invalid: {said}',
        details={key: value for key, value in details.items() if value},
    )


def gone(message: str) -> Refusal:
    return Refusal(410, "Expired", message)


def unsupported_media() -> Refusal:
    return Refusal(415, "UnsupportedMediaType", "415: Unsupported Media Type")


def method_not_allowed() -> Refusal:
    return Refusal(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")


class Cause:
    """One field at fault: ``kind`` is ``FieldValueInvalid``, ``FieldValueRequired``…"""

    _WORDS = {
        "FieldValueInvalid": "Invalid value",
        "FieldValueRequired": "Required value",
        "FieldValueNotSupported": "Unsupported value",
        "FieldValueNotFound": "Not found",
        "FieldValueDuplicate": "Duplicate value",
        "FieldValueForbidden": "Forbidden",
        "FieldValueTooLong": "Too long",
    }

    def __init__(self, kind: str, field: str, value: Any = None, detail: str = "") -> None:
        self.kind = kind
        self.field = field
        words = self._WORDS[kind]
        if value is not None:
            shown = f'"{value}"' if isinstance(value, str) else str(value)
            words += f": {shown}"
        self.words = words + (f": {detail}" if detail else "")

    @property
    def sentence(self) -> str:
        return f"{self.field}: {self.words}"

    def document(self) -> dict[str, str]:
        return {"reason": self.kind, "message": self.words, "field": self.field}
