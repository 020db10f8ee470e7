"""What proves who we are, renewed before it runs out: tokens in files, and programs that print some."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from hodei.providers.kubernetes.kubeconfig import Cluster, Exec, NoCluster
from hodei.providers.kubernetes.view import moment

REREAD_S = 60.0
"""How long a token from a file is used before the file is read again: the kubelet renews it there long before it runs out."""

EARLY_S = 60.0
PROGRAM_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Proof:
    """A header for requests, and a certificate for connections. Equal proofs may share connections."""

    authorization: str | None = field(default=None, repr=False)
    certificate: bytes | None = field(default=None, repr=False)
    key: bytes | None = field(default=None, repr=False)


class Credentials:
    """The proof of the moment. Safe to share between threads."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._lock = threading.Lock()
        self._proof: Proof | None = None
        self._good_until = 0.0

    def now(self) -> Proof:
        """The proof to use now. Raises NoCluster when there is none to be had."""
        with self._lock:
            if self._proof is None or time.monotonic() > self._good_until:
                self._proof, self._good_until = self._fresh()
            return self._proof

    def renew(self) -> None:
        """The server refused what we have: the next one is a new one."""
        with self._lock:
            self._good_until = 0.0

    def _fresh(self) -> tuple[Proof, float]:
        cluster, for_ever = self._cluster, float("inf")
        if cluster.exec is not None:
            return _from_program(cluster, cluster.exec)
        certificate, key = cluster.certificate, cluster.key
        if cluster.token_file is not None:
            try:
                token = cluster.token_file.read_text().strip()
            except OSError as error:
                raise NoCluster(
                    f"The token in {cluster.token_file} cannot be read: {error.strerror}."
                ) from error
            proof = Proof(authorization=f"Bearer {token}", certificate=certificate, key=key)
            return proof, time.monotonic() + REREAD_S
        header = None
        if cluster.token:
            header = f"Bearer {cluster.token}"
        elif cluster.username and cluster.password is not None:
            header = "Basic " + base64.b64encode(f"{cluster.username}:{cluster.password}".encode()).decode()
        return Proof(authorization=header, certificate=certificate, key=key), for_ever


def _from_program(cluster: Cluster, program: Exec) -> tuple[Proof, float]:
    spec: dict[str, Any] = {"interactive": False}
    if program.cluster_info:
        spec["cluster"] = {"server": cluster.server, "insecure-skip-tls-verify": cluster.insecure}
        if cluster.ca_data is not None:
            spec["cluster"]["certificate-authority-data"] = base64.b64encode(cluster.ca_data).decode()
    asked = json.dumps({"apiVersion": program.api_version, "kind": "ExecCredential", "spec": spec})
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HODEI_")}
    environment |= dict(program.env) | {"KUBERNETES_EXEC_INFO": asked}
    try:
        done = subprocess.run(
            [program.command, *program.args],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROGRAM_S,
            check=False,
        )
    except FileNotFoundError as error:
        hint = f" {program.hint}" if program.hint else ""
        raise NoCluster(f"The kubeconfig's program {program.command} is not installed.{hint}") from error
    except subprocess.TimeoutExpired as error:
        raise NoCluster(
            f"The kubeconfig's program {program.command} did not end within {PROGRAM_S:g} s."
        ) from error
    except OSError as error:
        raise NoCluster(
            f"The kubeconfig's program {program.command} cannot be run: {error.strerror}."
        ) from error
    if done.returncode:
        words = " ".join(done.stderr.decode(errors="replace").split())[-300:]
        raise NoCluster(
            f"The kubeconfig's program {program.command} failed with exit code {done.returncode}: {words}"
        )
    return _read(done.stdout, program)


def _read(output: bytes, program: Exec) -> tuple[Proof, float]:
    try:
        status = json.loads(output)["status"]
        token, certificate, key = (
            status.get("token"),
            status.get("clientCertificateData"),
            status.get("clientKeyData"),
        )
        ends = moment(status.get("expirationTimestamp"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NoCluster(f"The kubeconfig's program {program.command} printed no ExecCredential.") from error
    good_s = float("inf") if ends is None else (ends - datetime.now(UTC)).total_seconds() - EARLY_S
    proof = Proof(
        authorization=f"Bearer {token}" if token else None,
        certificate=certificate.encode() if certificate else None,
        key=key.encode() if key else None,
    )
    return proof, time.monotonic() + max(1.0, good_s)
