"""Workers that are only played: for tests, for load, and for trying the platform where nothing can be
started.

One process, the fleet, holds any number of simulated agents. They speak the agents' protocol over real HTTP,
run nothing, and act out a few commands. Every provider object reaches the same fleet through its socket, so
all processes see the same workers.
"""
