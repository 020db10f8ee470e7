"""Jobs that run again and again, or once at a time that is set: each nominal time fires once, however many clocks run.

``times`` reads what was asked for and says it in words; ``create``, ``change`` and ``read`` are what people ask; ``tick`` is
the clock's turn, and ``fire`` what it does: the firing, its job and their events in one transaction under the schedule's
row. ``why`` says in words what a job of a schedule waits for.
"""
