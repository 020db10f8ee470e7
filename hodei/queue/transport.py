"""Kombu's Redis transport, mended where a lost connection would end the controller."""

from __future__ import annotations

from kombu.transport import redis


class Channel(redis.Channel):
    """Can be closed twice.

    When Redis goes away, Celery closes each channel, forgets the connection's settings and closes again. If the first
    time failed before it came to the unacknowledged messages, the second one wants to connect for them, without
    settings; Celery takes that for unrecoverable, and its worker stops for good. There is nothing more to close: the
    messages are delivered again after the visibility time-out, and the clock repairs long before.
    """

    def close(self) -> None:
        """Let go of the connection, whether it works or not."""
        try:
            super().close()
        except AttributeError:
            if self.connection is not None and self.connection.client is not None:
                raise


class Transport(redis.Transport):
    """What ``broker_transport`` names."""

    Channel = Channel
