"""A job's output: stored as the frames that the agent sent, read as entries or bytes, exported as a file.

The chunks in Postgres are the log, while the job runs and after; every process on every machine reads the same. A chunk is one
frame with its payload still packed: storing it costs no work per line. All chunks of an execution are in the partition of
the day on which it was made (``Log.day``). What followers share in memory (``feeds``, ``window``) is never needed: rows are the
truth. Nothing here knows providers or sagas.
"""
