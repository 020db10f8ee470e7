"""The end-to-end procedure: eight phases against a running system, or one that it starts itself. ``just e2e all``.

It comes from outside: the command line, HTTP, SQL and ``docker``, as an operator has them. Read it from ``procedure.py``; a
file for each phase, in their order: ``infrastructure``, ``build``, ``services``, ``providers``, ``jobs``, ``validation``,
``pods_of_jobs``, ``batch``. What is shared: ``ledger`` (a check and its evidence), ``system`` (what is looked at), ``own`` (the one
that it starts), ``activity`` (the watch over a job), ``records`` and ``isolation`` (the SQL), ``remains`` (what may not be left).

A check is a sentence and a function that returns its evidence or raises :class:`e2e.ledger.Off` with what is there instead.
Nothing sleeps in hope: an end is waited for with ``hodei job wait``, and everything else has a limit that the contract names.
"""
