"""The HTTP services. A route validates, calls one use case and writes its answer; nothing here decides anything else.

Every answer that is not a success is ``application/problem+json``. Every request passes :mod:`hodei.api.guard` first:
the listener it came through, its Host, its origin, its token and its size are checked before any route sees it.
"""
