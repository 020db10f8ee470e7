"""Jobs in a graph: pipelines, and their runs.

The graph of a run lives in Postgres, and facts alone move it: ``advance`` is told that something may be to be done, by a message
after a job's end or by the clock (``attend``), looks, and does it; who advances a run holds its row. So a message that
comes twice, late or never changes nothing, and any number of processes may advance. ``definition`` is what people write,
``create``, ``change`` and ``read`` what they ask of pipelines; ``start``, ``cancel`` and ``resume`` of runs; ``follow`` tells a
run as it goes.
"""
