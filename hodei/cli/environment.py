"""The ``HODEI_*`` variables by name, without the cost of importing the settings.

The names here are those of ``hodei.settings``; a test compares them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

PREFIX = "HODEI_"
KNOWN = frozenset(
    (
        "AGENT_BIND",
        "ALLOWED_HOSTS",
        "ALLOWED_ORIGINS",
        "ALLOW_UNAUTHENTICATED",
        "API_TOKEN",
        "ATTEMPT",
        "BIND",
        "CONTROLLER_THREADS",
        "DATABASE_URL",
        "DATA_DIR",
        "DEV_MODE",
        "DOCKER_ENABLED",
        "DOCKER_NETWORK",
        "E2E_DOCKER",
        "EXECUTION_ID",
        "OUTPUT",
        "FLOWER_BASIC_AUTH",
        "FLOWER_PORT",
        "METRICS_PORT",
        "HEARTBEAT_INTERVAL",
        "HTTP_THREADS",
        "IMAGE",
        "JOB_CONTROLLER_ENABLED",
        "JOB_ID",
        "K8S_CONTEXT",
        "K8S_IMAGE_PULL_SECRET",
        "K8S_KUBECONFIG",
        "K8S_NAMESPACE",
        "K8S_SERVICE_ACCOUNT",
        "K8S_TEST",
        "KUBERNETES_ENABLED",
        "LOG_DIR",
        "LOG_FORMAT",
        "LOG_MAX_BYTES",
        "LOG_RETENTION",
        "LOG_SPOOL_BYTES",
        "ORCHESTRATOR_PORT",
        "OTP_TTL",
        "PATIENCE",
        "PROCESS_ENABLED",
        "PROVIDER_ACCESS",
        "PROVISIONING_ENABLED",
        "REDIS_URL",
        "SCHEDULER_PORT",
        "SECRET_KEY",
        "SERVER",
        "SERVER_HOST",
        "STEP_LIMIT",
        "TOKEN",
        "URL",
        "WORKER_GIVE_UP_AFTER",
        "WORKER_ID",
        "WORKER_IMAGE",
        "WORKER_LOST_AFTER",
        "WORKER_MANAGER_PORT",
    )
)
KUBERNETES_INJECTED = re.compile(
    r"^[A-Z0-9_]+_(SERVICE_(HOST|PORT)(_[A-Z0-9_]+)?|PORT(_\d+_(TCP|UDP)(_(PROTO|PORT|ADDR))?)?)$"
)


def warnings(environment: Mapping[str, str]) -> list[str]:
    """A sentence for each ``HODEI_*`` variable that is not a setting, with the nearest one that is."""
    sentences = []
    for variable in sorted(environment):
        name = variable.removeprefix(PREFIX)
        if not variable.startswith(PREFIX) or name in KNOWN or KUBERNETES_INJECTED.match(name):
            continue
        import difflib

        near = difflib.get_close_matches(name, KNOWN, n=1, cutoff=0.5)
        hint = f"did you mean {PREFIX}{near[0]}?" if near else "unset it."
        sentences.append(f"{variable} is not a setting: {hint}")
    return sentences
