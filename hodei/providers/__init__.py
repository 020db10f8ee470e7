"""Where workers are made: one small contract, and an adapter for each place.

A provider knows workers and their infrastructure, never jobs, sagas or the database. It may be called from many threads
and many processes at once and keeps nothing that another process could need. docker and kubernetes are imported only in
their own package, when such a provider is opened.
"""
