"""Workers as Docker containers.

The container's name is derived from the worker's id, so creating one twice makes one, also after a crash.
What is ours is recognised by its labels, never by the name alone. The `docker` package is imported only by
`engine.py` and `pull.py`, and they only when a provider is opened.
"""
