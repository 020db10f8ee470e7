"""One execution as the platform describes it in a `run` message."""

from __future__ import annotations

from typing import Any, NamedTuple

from hodei_agent.errors import BadDefinition


class Definition(NamedTuple):
    """What to run, with what, and for how long. Exactly one of `shell`, `script` and `argv` is set."""

    execution_id: str
    job_id: str
    attempt: int
    fence: int
    shell: str | None
    script: str | None
    argv: list[str] | None
    args: list[str]
    env: dict[str, str]
    secrets: dict[str, str]
    timeout_s: float | None
    idle_s: float | None
    grace_s: float
    log_max_bytes: int | None


def read(document: dict[str, Any]) -> Definition:
    """Read the message's `execution`. Raises KeyError, TypeError or ValueError without its id or fence."""
    return Definition(
        execution_id=str(document["execution_id"]),
        job_id=str(document.get("job_id") or ""),
        attempt=int(document.get("attempt") or 1),
        fence=int(document["fence"]),
        shell=document.get("shell"),
        script=document.get("script"),
        argv=document.get("argv"),
        args=document.get("args") or [],
        env=document.get("env") or {},
        secrets=document.get("secrets") or {},
        timeout_s=_seconds(document.get("timeout_s")),
        idle_s=_seconds(document.get("idle_s")),
        grace_s=_seconds(document.get("grace_s")) or 0.0,
        log_max_bytes=document.get("log_max_bytes"),
    )


def check(definition: Definition) -> None:
    """Raise BadDefinition, with a sentence for a person, when this can never be started."""
    given = [x for x in (definition.shell, definition.script, definition.argv) if x is not None]
    if len(given) != 1:
        raise BadDefinition("A job needs exactly one of a shell line, a script and a command with arguments.")
    if definition.argv is not None and not (
        _texts(definition.argv) and definition.argv and definition.argv[0]
    ):
        raise BadDefinition("The command is not a list of texts that starts with a program.")
    if not _texts(definition.args):
        raise BadDefinition("The arguments are not a list of texts.")
    for text in (definition.shell, definition.script):
        if text is not None and (not isinstance(text, str) or "\0" in text):
            raise BadDefinition("The command is not a text, or has a NUL character in it.")
    for names in (definition.env, definition.secrets):
        for name, value in names.items():
            if not name or "=" in name or "\0" in name or not isinstance(value, str) or "\0" in value:
                raise BadDefinition(
                    f"The environment variable {name!r} has a name or value that cannot be set."
                )


def _texts(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(v, str) and "\0" not in v for v in values)


def _seconds(value: Any) -> float | None:
    return None if value is None else max(0.0, float(value))
