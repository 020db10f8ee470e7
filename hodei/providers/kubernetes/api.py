"""Requests to the API server: documents in, documents out, each call with a deadline for the whole of it."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import urllib3
from urllib3 import exceptions

from hodei.domain.causes import Failure
from hodei.providers.contract import ProviderError
from hodei.providers.kubernetes import failures, kubeconfig, readiness
from hodei.providers.kubernetes.connections import pool_manager
from hodei.providers.kubernetes.credentials import Credentials, Proof
from hodei.providers.kubernetes.kubeconfig import Cluster, NoCluster

CONNECT_S = 5.0
LOOK_AGAIN_S = 30.0
"""How soon a kubeconfig that was changed is noticed."""

SAME_CLOCK = timedelta(seconds=2)
PAGE = 500
MERGE_PATCH = "application/merge-patch+json"
METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
_KEPT = 16
_READ_BYTES = 65_536
_PAUSE_S = 1.0
_CONFLICT_PAUSES_S = (0.1, 0.3, 1.0)


class ApiError(Exception):
    """The API server answered with an error; ``words`` are its own, on one line."""

    def __init__(self, status: int, reason: str, words: str) -> None:
        super().__init__(f"{status} {reason}: {words}")
        self.status = status
        self.reason = reason
        self.words = words

    def about(self, what: str, namespace: str) -> ProviderError:
        """The same in the platform's words; ``what`` it is about is such as "the pod hodei-worker-…"."""
        failure = failures.refused(self.status, self.reason, self.words, namespace=namespace, what=what)
        passing = self.status == 409 or self.status >= 429 or failure.code == "ERR_5003"
        return ProviderError(failure, transient=failure.is_infrastructure and passing)


class ApiServer:
    """One cluster's API server. Nothing connects before the first call. Safe to share between threads."""

    def __init__(self, path: Path | None, context: str | None, *, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._path = path
        self._context = context
        self._lock = threading.Lock()
        self._cluster: Cluster | None = None
        self._looked_at = 0.0
        self._credentials: Credentials | None = None
        self._pool: tuple[Proof, urllib3.PoolManager] | None = None
        self._ahead = timedelta()

    def cluster(self) -> Cluster:
        """Where the cluster is. A configuration that came or changed is noticed. Raises NoCluster."""
        with self._lock:
            if self._cluster is not None and time.monotonic() - self._looked_at < LOOK_AGAIN_S:
                return self._cluster
        found = kubeconfig.find(self._path, self._context)
        with self._lock:
            self._looked_at = time.monotonic()
            if found != self._cluster:
                self._cluster, self._credentials, self._pool = found, Credentials(found), None
        return found

    @property
    def address(self) -> str:
        """The server's URL, for messages."""
        try:
            return self.cluster().server
        except NoCluster:
            return "an unknown address"

    def now(self) -> datetime:
        """The time by the server's clock, which its documents' times are compared with; to a second or so."""
        return datetime.now(UTC) + self._ahead

    def get(self, path: str, *, timeout_s: float | None = None, **query: Any) -> dict[str, Any]:
        return self.call("GET", path, query=query, timeout_s=timeout_s)

    def create(self, path: str, document: dict[str, Any]) -> dict[str, Any]:
        """Make it. A quota that others are counting too refuses with a conflict, and is asked again. Raises ApiError."""
        for pause_s in _CONFLICT_PAUSES_S:
            try:
                return self.call("POST", path, body=document)
            except ApiError as error:
                if error.reason != "Conflict":
                    raise
            time.sleep(pause_s * random.uniform(0.5, 1.5))
        return self.call("POST", path, body=document)

    def delete(self, path: str, *, uid: str | None, grace: int | None = None) -> None:
        """Delete this very object. One that is gone, or another's of the same name, is left alone. Raises ApiError."""
        options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        try:
            self.call("DELETE", path, body=options)
        except ApiError as error:
            if error.status not in (404, 409):
                raise

    def list_all(
        self, path: str, *, selector: str, metadata_only: bool = False, timeout_s: float | None = None
    ) -> tuple[list[dict[str, Any]], str]:
        """All that the label selector finds, page by page, and the version of the whole."""
        items: list[dict[str, Any]] = []
        query: dict[str, Any] = {"labelSelector": selector, "limit": PAGE}
        while True:
            accept = METADATA_ONLY if metadata_only else None
            answer = self.call("GET", path, query=query, accept=accept, timeout_s=timeout_s)
            items += answer.get("items") or ()
            metadata = answer.get("metadata") or {}
            if not metadata.get("continue"):
                return items, str(metadata.get("resourceVersion") or "")
            query["continue"] = metadata["continue"]

    def call(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, Any] | None = None,
        body: dict[str, Any] | None = None,
        content_type: str = "application/json",
        accept: str | None = None,
        timeout_s: float | None = None,
    ) -> dict[str, Any]:
        """Ask, and have the whole answer before the deadline.

        What is asked may be asked twice: on a new connection when a kept one broke, with new credentials when ours were
        refused, after a pause when the server wants one, and when one that has only just started forbids it. Raises
        ApiError, and ProviderError (ERR_5001, ERR_5006) when there is no answer.
        """
        limit_s = timeout_s or self.timeout_s
        deadline = time.monotonic() + limit_s
        headers = {"Accept": accept or "application/json"}
        if body is not None:
            headers["Content-Type"] = content_type
        sent = None if body is None else json.dumps(body).encode()
        url = path + (f"?{urlencode(query)}" if query else "")
        broke = refused = forbidden = False
        while True:
            try:
                status, answered, data = self._exchange(method, url, headers, sent, deadline)
            except (exceptions.HTTPError, OSError) as error:
                if _is_time_out(error) or time.monotonic() >= deadline:
                    raise ProviderError(failures.silent(self.address, limit_s), transient=True) from error
                if broke or not isinstance(error, exceptions.ProtocolError):
                    raise self._unreachable(error) from error
                broke = True
                continue
            if status == 401 and not refused:
                refused = True
                self._renew()
                continue
            if status == 403 and not forbidden:
                forbidden = True
                readiness.wait(lambda: self._readyz(deadline), deadline=deadline)
                continue
            wait_s = _pause(status, answered)
            if wait_s is not None and time.monotonic() + wait_s < deadline:
                time.sleep(wait_s)
                continue
            return _document(status, data)

    def _readyz(self, deadline: float) -> int | None:
        try:
            return self._exchange("GET", readiness.PATH, {}, None, deadline)[0]
        except (exceptions.HTTPError, OSError):
            return None

    def _exchange(
        self, method: str, url: str, headers: dict[str, str], body: bytes | None, deadline: float
    ) -> tuple[int, Any, bytes]:
        left_s = max(0.01, deadline - time.monotonic())
        response = self._send(method, url, headers, body, connect_s=min(CONNECT_S, left_s), read_s=left_s)
        whole = False
        try:
            pieces = []
            while piece := response.read1(_READ_BYTES):
                pieces.append(piece)
                if time.monotonic() >= deadline:
                    raise exceptions.TimeoutError("the answer took too long")
            whole = True
            self._note_clock(response.headers.get("Date"))
            return response.status, response.headers, b"".join(pieces)
        finally:
            if whole:
                response.release_conn()
            else:
                response.close()

    @contextmanager
    def stream(self, path: str, *, query: dict[str, Any], silence_s: float) -> Iterator[Stream]:
        """Follow an answer of lines; a read that brings nothing for ``silence_s`` raises TimeoutError. Raises ApiError,
        ProviderError.
        """
        url = f"{path}?{urlencode(query)}"
        try:
            response = self._send(
                "GET", url, {"Accept": "application/json"}, None, connect_s=CONNECT_S, read_s=silence_s
            )
        except (exceptions.HTTPError, OSError) as error:
            if _is_time_out(error):
                raise ProviderError(failures.silent(self.address, silence_s), transient=True) from error
            raise self._unreachable(error) from error
        try:
            if response.status >= 400:
                if response.status == 401:
                    self._renew()
                _document(response.status, response.read1(_READ_BYTES))
            yield Stream(response)
        finally:
            response.close()

    def close(self) -> None:
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool[1].clear()

    def _send(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        body: bytes | None,
        *,
        connect_s: float,
        read_s: float,
    ) -> Any:
        try:
            cluster = self.cluster()
            assert self._credentials is not None
            proof = self._credentials.now()
        except NoCluster as error:
            raise ProviderError(Failure(code="ERR_5001", message=str(error)), transient=True) from error
        if proof.authorization is not None:
            headers = headers | {"Authorization": proof.authorization}
        return self._connections(cluster, proof).request(
            method,
            cluster.server + url,
            headers=headers,
            body=body,
            timeout=urllib3.Timeout(connect=connect_s, read=read_s),
            preload_content=False,
            retries=False,
        )

    def _note_clock(self, said: str | None) -> None:
        """How far the server's clock is ahead of ours. A second or two are the header's own, and the way's."""
        try:
            ahead = parsedate_to_datetime(said or "") - datetime.now(UTC)
        except (TypeError, ValueError):
            return
        self._ahead = ahead if abs(ahead) > SAME_CLOCK else timedelta()

    def _renew(self) -> None:
        if self._credentials is not None:
            self._credentials.renew()

    def _connections(self, cluster: Cluster, proof: Proof) -> urllib3.PoolManager:
        with self._lock:
            if self._pool is not None and (self._pool[0].certificate, self._pool[0].key) == (
                proof.certificate,
                proof.key,
            ):
                return self._pool[1]
            made = pool_manager(cluster, proof, keep=_KEPT)
            self._pool = (proof, made)
            return made

    def _unreachable(self, error: Exception) -> ProviderError:
        return ProviderError(failures.unreachable(_words(error), self.address), transient=True)


class Stream:
    """The lines of an answer that goes on."""

    def __init__(self, response: Any) -> None:
        self._response = response

    def documents(self) -> Iterator[dict[str, Any]]:
        """One for each line, until the server ends the answer. Raises TimeoutError and OSError."""
        rest = b""
        try:
            while piece := self._response.read1(_READ_BYTES):
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    if line.strip():
                        yield json.loads(line)
        except (exceptions.ReadTimeoutError, TimeoutError) as error:
            raise TimeoutError("the stream went silent") from error
        except (exceptions.HTTPError, ValueError) as error:
            raise OSError(_words(error)) from error

    def shut(self) -> None:
        """Have the reader end now, from another thread."""
        with suppress(OSError, ValueError, RuntimeError, AttributeError):  # it has ended
            self._response.shutdown()


def _pause(status: int, headers: Any) -> float | None:
    """How long the server wants us to wait before we ask again; None: not at all."""
    if status not in (429, 503) or "Retry-After" not in headers:
        return None
    try:
        return max(_PAUSE_S, float(headers["Retry-After"]))
    except ValueError:
        return _PAUSE_S


def _document(status: int, data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data) if data.strip() else {}
    except ValueError:
        document = {"message": " ".join(data.decode(errors="replace").split())[:500]}
    if not isinstance(document, dict):
        document = {"message": str(document)[:500]}
    if status < 400:
        return document
    words = " ".join(str(document.get("message") or "no words").split())
    raise ApiError(status, str(document.get("reason") or ""), words)


def _is_time_out(error: Exception) -> bool:
    refused = isinstance(error, exceptions.NewConnectionError)  # which urllib3 counts among its time-outs
    return isinstance(error, exceptions.TimeoutError | TimeoutError) and not refused


def _words(error: Exception) -> str:
    """The system's words, without urllib3's around them."""
    inner = [each for each in error.args if isinstance(each, Exception)]
    reason = getattr(error, "reason", None) or (inner[0] if inner else error.__cause__ or error)
    text = " ".join(str(reason).split())
    return text.rpartition("Failed to establish a new connection: ")[2] or type(reason).__name__
