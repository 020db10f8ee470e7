"""Everything Celery and Redis: the app and its settings, a named task per step, the courier, the wake-ups.

A message carries an id and says "look at this". Redis may be flushed or killed at any moment: the clock finds what a lost
message was about. Queues are named by themselves, without declared exchanges: kombu keeps those in Redis, and after a flush
a named exchange routes to nothing.
"""

from hodei.queue import redis_alone  # noqa: F401 (before anything of this package imports it)
