"""Prints the tests that were skipped, and fails when one is not written down: ``skips.py RESULT.xml EXPECTED.txt``.

A line of the written list is ``<test> | <why>``; ``*`` in the test's name stands for anything.
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree
from fnmatch import fnmatchcase
from pathlib import Path


def skipped(result: Path) -> list[tuple[str, str]]:
    """Each skipped test and its reason, as pytest's JUnit file has them."""
    found = []
    for case in ElementTree.parse(result).iter("testcase"):
        for skip in case.iter("skipped"):
            found.append((f"{case.get('classname')}::{case.get('name')}", skip.get("message") or ""))
    return sorted(found)


def expected(written: Path) -> list[str]:
    lines = (line.partition(" | ")[0].strip() for line in written.read_text().splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def main(result: str, written: str) -> int:
    skips, patterns = skipped(Path(result)), expected(Path(written))
    print(f"Skipped: {len(skips)}")
    for test, reason in skips:
        print(f"  {test} | {reason}")
    surprises = [test for test, _ in skips if not any(fnmatchcase(test, pattern) for pattern in patterns)]
    for test in surprises:
        print(f"Not in {written}: {test}", file=sys.stderr)
    return 1 if surprises else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
