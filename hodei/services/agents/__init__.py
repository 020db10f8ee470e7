"""What agents ask and tell. Every call is bound to one worker by its session token, and to one attempt by its fence."""

from hodei.services.agents.inbox import poll_inbox
from hodei.services.agents.liveness import goodbye, heartbeat
from hodei.services.agents.registration import register
from hodei.services.agents.reports import accept, report_result, started, store_frames
from hodei.services.agents.sessions import AgentIdentity, authenticate

__all__ = [
    "AgentIdentity",
    "accept",
    "authenticate",
    "goodbye",
    "heartbeat",
    "poll_inbox",
    "register",
    "report_result",
    "started",
    "store_frames",
]
