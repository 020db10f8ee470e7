"""Postgres: the system of record. The only package that knows SQLAlchemy.

One transaction is one :class:`~hodei.storage.transaction.Transaction`; what must happen outside the database is hung on
its commit. Every change of a state is a named query in ``queries/``, guarded by the states it may start from, so that a
message that comes twice, late or from a superseded owner changes nothing.
"""
