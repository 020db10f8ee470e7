"""Where the agent is on this machine."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path


@cache
def agent_folder() -> Path:
    """The folder of the installed package `hodei_agent`, which any Python 3.8 or later runs."""
    spec = importlib.util.find_spec("hodei_agent")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("the package hodei_agent is not installed")
    return Path(next(iter(spec.submodule_search_locations)))
