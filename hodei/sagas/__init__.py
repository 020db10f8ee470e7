"""Sagas: lists of steps, each with its work and its undoing, moved by one engine.

A step is run when somebody looks at it: a Celery message, the clock, or what it waited for. It is always safe to look again: the
engine holds the saga's row, and a step that is done stays done. Nothing here knows how messages travel.
"""
