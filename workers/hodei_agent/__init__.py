"""The agent: the one process inside a worker. It fetches a job, runs it and reports what it wrote and how
it ended.

It implements the agent's side of `docs/reference/agent-protocol.md`, with nothing but the standard library,
on Python 3.8 and later. It imports nothing of the platform, so the folder can be copied into any image.

Invariants: the main thread alone starts, signals and reaps processes, and never waits for the network. Each
thread has a connection of its own. Every descendant of the agent belongs to the job that it runs, since it
runs one at a time and adopts orphans (it is a subreaper).

Pitfall: a cold start is part of every job's latency. Look at `python -X importtime` before importing
anything.
"""
