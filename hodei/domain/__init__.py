"""What a job, a worker, a saga and their ends *are*: pure Python, no I/O, no framework.

Everything here is frozen and keyword-only; clocks and ids come from outside. Legal transitions are written once, in the
``TRANSITIONS`` tables, and the CHECK constraints, the guarded SQL and the documentation are all derived from them.
"""
