"""Postgres and Redis from wheels, and the supervisor behind ``hodei dev`` and ``hodei demo``.

Nothing is imported here, so that ``hodei.embedded.state_file`` stays cheap for the command line.

Invariants: the servers run as a user of their own when started by root; they listen on a private socket
(Postgres) or on loopback (Redis), always with a password; no permission above the data folder is changed; one
process owns a data folder at a time; what a killed owner left behind is found and ended by the next start.

Pitfall: on Linux a server dies with the *thread* that started it. Start from the main thread.
"""
