"""What the platform says about itself: structured logs, Prometheus metrics, a request's id.

Nothing is set up at import. A process calls :func:`hodei.observability.logs.configure_logging` once.
"""
