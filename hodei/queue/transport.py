"""Kombu's Redis transport, mended where a lost connection would end the controller."""

from __future__ import annotations

from typing import Any

from kombu.transport import redis as kombu_redis
from redis.exceptions import ConnectionError as RedisConnectionError


class Channel(kombu_redis.Channel):
    """A channel that still says that its connection is lost when Celery has given that connection up already.

    When Redis goes away, Celery forgets the connection's settings and then closes the channel, or a task that ran
    meanwhile acknowledges its message there. Either one would connect again, without settings: an `AttributeError`,
    which Celery takes for unrecoverable, and its worker stops for good. A lost connection it survives; the messages
    are delivered again after the visibility time-out, and the clock repairs long before.
    """

    def _connparams(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        if self.connection is None or self.connection.client is None:
            raise RedisConnectionError("This connection was lost and given up.")
        return super()._connparams(*arguments, **options)


class Transport(kombu_redis.Transport):
    """What kombu uses for ``redis://`` and ``rediss://``."""

    Channel = Channel
