"""The HTTP services. A route validates, calls one use case and writes its answer; it decides nothing else.

Every answer that is not a success is ``application/problem+json``. Every request first passes
:mod:`hodei.api.guard`: the listener it came through, its Host, its origin, its token and its size,
before any route sees it.
"""
