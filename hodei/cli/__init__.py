"""The ``hodei`` program (typer + rich).

Invariants: stdout carries only what was asked for, everything else goes to stderr; a mistake is one sentence
and an exit code, decided in :func:`hodei.cli.main.main` alone; nothing heavier than typer is imported before
a command runs, so that ``hodei --help`` is quick.

Exit codes: 0 done, 1 the job did not succeed (with ``--wait`` and ``--follow`` the job's own), 2 usage, 3 the
server refused, 4 the server cannot be reached, 130 Ctrl-C.
"""
