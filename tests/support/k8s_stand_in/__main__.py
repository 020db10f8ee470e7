"""A stand-in by hand: ``.venv/bin/python -m support.k8s_stand_in`` in ``tests/``, then ``KUBECONFIG=… kubectl get pods``."""

from __future__ import annotations

import argparse
import signal
import sys
import threading

from support.k8s_stand_in.cluster import ADMIN, CONTROL_PLANE, StandInCluster


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: any that is free (default)")
    parser.add_argument(
        "--context", choices=(ADMIN, CONTROL_PLANE), default=ADMIN, help="the current one (default: admin)"
    )
    given = parser.parse_args()
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    with StandInCluster(port=given.port) as cluster:
        print(cluster.kubeconfig(given.context), flush=True)
        over.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
