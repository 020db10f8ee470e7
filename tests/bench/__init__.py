"""Measurements, run by hand: ``python -m tests.bench.<name>`` from the checkout. What each measures is in ``README.md``."""

import sys
from pathlib import Path

_TESTS = str(Path(__file__).resolve().parents[1])
if _TESTS not in sys.path:
    sys.path.insert(0, _TESTS)  # what the tests stand on (``support``) is used here, too
