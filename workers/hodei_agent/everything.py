"""Imports every module that a running agent may need, so that building an image compiles them all."""

from hodei_agent import agent, supervisor

__all__ = ["agent", "supervisor"]
