"""What the platform can be asked to do, a verb a module: submit, dispatch, register, report, look, repair.

A use case opens its own transaction, guards every change by state and fence, and lets effects outside the database
(messages, wake-ups) happen after the commit. It never knows who called it: HTTP, a Celery step or the clock.
"""
