"""Imports every module that a running agent may need, so that building an image compiles them all."""

from hodei_agent import agent, self_hosted, supervisor

__all__ = ["agent", "self_hosted", "supervisor"]
