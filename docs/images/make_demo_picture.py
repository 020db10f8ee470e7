"""Draws ``demo.svg`` from a real run: runs ``hodei demo``, and renders what it printed, word for word.

Run it again when the demo's words change: ``./run python docs/images/make_demo_picture.py``.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

PICTURE = Path(__file__).with_name("demo.svg")
COLUMNS = 118


def record() -> str:
    """What ``hodei demo`` prints. Raises CalledProcessError when it does not succeed."""
    demo = [sys.executable, "-m", "hodei.cli.main", "demo"]
    return subprocess.run(demo, check=True, stdout=subprocess.PIPE, text=True).stdout


def draw(printed: str) -> str:
    """The SVG, without the fonts that rich would have the reader's browser fetch from elsewhere."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text("$ ./run hodei demo", style="bold"))
    for line in printed.rstrip().splitlines():
        style = "green" if line.startswith("    | ") or "SUCCEEDED" in line else ""
        console.print(Text(line, style=style))
    svg = console.export_svg(title="hodei demo")
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)


if __name__ == "__main__":
    PICTURE.write_text(draw(record()), encoding="utf-8")
