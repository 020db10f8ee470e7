"""The report: ``report.json`` for programs and for the next run, ``report.md`` for people."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

from e2e.ledger import Ledger
from e2e.records import Submitted

JSON_FILE = "report.json"
MARKDOWN_FILE = "report.md"
NONE_YET = "There is no report in {folder} yet: just e2e all"


def write(
    folder: Path, ledger: Ledger, *, verdict: str, jobs: Sequence[Submitted], **facts: Any
) -> dict[str, Any]:
    """Writes both, and returns what is in the first."""
    document = {
        "verdict": verdict,
        **facts,
        "checks": ledger.document(),
        "jobs": [asdict(job) for job in jobs],
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / JSON_FILE).write_text(json.dumps(document, indent=2) + "\n")
    (folder / MARKDOWN_FILE).write_text(markdown(document))
    return document


def read(folder: Path) -> dict[str, Any] | None:
    """The last run's; None when there is none."""
    try:
        found: dict[str, Any] = json.loads((folder / JSON_FILE).read_text())
    except FileNotFoundError:
        return None
    return found


def jobs_of(document: dict[str, Any] | None, deployment: str) -> list[Submitted]:
    """The jobs of the last run, if that was on this very system."""
    if document is None or document.get("deployment") != deployment:
        return []
    return [Submitted(**job) for job in document["jobs"]]


def markdown(document: dict[str, Any]) -> str:
    checks = document["checks"]
    failed = [check for check in checks if not check["ok"]]
    lines = [
        "# End-to-end report",
        "",
        f"**{document['verdict']}** {summary(document)}",
        "",
        f"System: {document['url']} ({document['whose']}), began {document['began_at']}.",
        "",
    ]
    if failed:
        lines += ["## What is off", ""]
        lines += [
            f"- {check['phase']}: {check['name']}\n\n{_quoted(check['evidence'])}\n" for check in failed
        ]
    for phase, members in groupby(checks, key=lambda check: check["phase"]):
        lines += [f"## {phase}", "", "| | check | evidence |", "| --- | --- | --- |"]
        lines += [
            f"| {'ok' if check['ok'] else '**FAIL**'} | {_cell(check['name'])} | {_cell(check['evidence'])} |"
            for check in members
        ]
        lines.append("")
    return "\n".join(lines)


def summary(document: dict[str, Any]) -> str:
    failed = sum(not check["ok"] for check in document["checks"])
    return f"{len(document['checks'])} checks, {failed} off, {document['took_s']:.0f} s."


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", "<br>")


def _quoted(text: str) -> str:
    return "\n".join(f"      {line}" for line in text.splitlines())
