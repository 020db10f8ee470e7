"""A typed client of the HTTP services; the command line uses only this.

Nothing is imported here, so that ``hodei.client.errors`` and ``hodei.client.shapes`` stay cheap; httpx is
imported by ``hodei.client.client``.

Invariants: every answer becomes a frozen dataclass that ignores fields it does not know and keeps the whole
JSON in ``document``; a refusal is a :class:`~hodei.client.errors.ServerRefused`, silence a
:class:`~hodei.client.errors.ServerUnreachable`; a request is sent again only when it cannot do a thing twice.
"""
