"""The Celery app. Its settings answer the sharp edges of Celery on Redis; each says which."""

from __future__ import annotations

from celery import Celery, signals
from kombu import Queue
from kombu.transport import TRANSPORT_ALIASES

from hodei.queue.ages import stamp
from hodei.queue.names import DISPATCH, QUEUES, key_prefix

VISIBILITY_TIMEOUT_S = 600
"""After this long an unacknowledged message is delivered again. No task takes nearly as long."""


def make_app(redis_url: str, deployment: str) -> Celery:
    """An app on this broker; tasks are added by :func:`hodei.queue.tasks.register`."""
    TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), "hodei.queue.transport:Transport"))
    signals.before_task_publish.connect(stamp, weak=False, dispatch_uid="hodei sent at")
    app = Celery("hodei", broker=redis_url, set_as_current=False)
    app.conf.update(
        broker_transport_options={
            "visibility_timeout": VISIBILITY_TIMEOUT_S,
            "unacked_restore_interval": 5,  # the default looks at every 10th poll only
            "unacked_restore_throttle": 1,
            "socket_timeout": 30,  # without it a dead connection is waited for for ever
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 25,
            "global_keyprefix": key_prefix(deployment),  # several deployments on one Redis
            "queue_order_strategy": "round_robin",  # a backlog in one queue starves no other
        },
        visibility_timeout=VISIBILITY_TIMEOUT_S,
        broker_connection_timeout=5,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # a broker that is away for an hour comes back to a living controller
        broker_pool_limit=32,  # each thread that publishes or asks needs one; they are opened as they are needed
        broker_pool_acquire_timeout=2,  # the default waits for ever
        worker_cancel_long_running_tasks_on_connection_loss=False,  # a step is guarded by its lease
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_acks_on_failure_or_timeout=True,  # the clock nudges; a failing message must not come back for ever
        worker_prefetch_multiplier=1,
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        task_publish_retry=False,  # the courier has its own patience; the clock repairs
        task_serializer="json",
        result_serializer="json",
        accept_content=["json"],
        task_default_queue=DISPATCH,
        task_queues=[Queue(name, exchange=None, routing_key=name) for name in QUEUES],
        task_default_exchange_type="direct",
        task_create_missing_queues=True,
        worker_send_task_events=True,  # for Flower
        task_send_sent_event=False,
        event_queue_expires=60,
        event_queue_ttl=10,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_soft_shutdown_timeout=5,
        worker_enable_soft_shutdown_on_idle=False,
        enable_utc=True,
    )
    return app
