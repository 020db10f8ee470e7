"""What the platform says about itself: structured logs, Prometheus metrics, and the id that ties a request's lines together.

Nothing here is set up at import. A process calls :func:`hodei.observability.logs.configure_logging` once, at its start.
"""
