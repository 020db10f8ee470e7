"""The documentation as the tests read it: pages, their links, their commands."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from support.platform import CHECKOUT

PAGES = sorted([CHECKOUT / "README.md", *(CHECKOUT / "docs").rglob("*.md")])


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block. ``info`` is what follows the fence: ``sh``, ``sh run``, ``sh docker``, ``sql``, ``json`` …"""

    page: Path
    line: int
    info: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(CHECKOUT)}:{self.line}"


def blocks(*infos: str) -> list[Block]:
    """All blocks with one of these words behind the fence."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(r"^```([^\n]*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            line = text.count("\n", 0, match.start()) + 1
            found.append(Block(page=page, line=line, info=match[1].strip(), text=match[2]))
    return [block for block in found if block.info in infos]


def links(page: Path) -> list[str]:
    """The page's links and pictures that point into this checkout."""
    targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    return [target for target in targets if "://" not in target and not target.startswith("#")]
