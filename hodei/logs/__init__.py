"""A job's output: stored as the frames that the agent sent, read as entries or bytes, exported as a file.

The chunks in Postgres are the log, while the job runs and after; every process on every machine reads the same. A chunk is one
frame with its payload still packed: storing it costs no work per line. Nothing here knows providers, jobs or sagas.
"""
