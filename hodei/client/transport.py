"""One HTTP connection to one service: retries, refusals and silence.

A request whose repetition does no harm (a GET; a POST with an ``Idempotency-Key``, or of something that is done once) is sent
again after a refused or broken connection and after a 502, 503 or 504, for as long as a service takes to be replaced by
its next version. One that timed out is not: the server may be busy with it.
"""

from __future__ import annotations

import ipaddress
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx

from hodei.client.errors import (
    ConnectionLost,
    NotHodei,
    ServerRefused,
    ServerSilent,
    ServerUnavailable,
    ServerUnreachable,
)

CONNECT_TIMEOUT_S = 5.0
BACK_OFF_S = (0.1, 0.3, 0.6)
LONGEST_PAUSE_S = 1.0
PATIENCE_S = 10.0
"""Stopping takes a service up to two seconds, starting another two; on a busy machine a multiple of that."""
UNAVAILABLE = frozenset({502, 503, 504})
NEXT_PAGE = re.compile(r'<([^>]+)>\s*;\s*rel="?next"?')


class Transport:
    """Requests to ``url``.

    ``timeout_s`` is how long one answer may take; ``patience_s`` for how long a server that is away is tried again.
    ``waiting`` is called with the failure when that begins to take long, once for a request.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None,
        timeout_s: float,
        patience_s: float = PATIENCE_S,
        waiting: Callable[[ServerUnreachable], None] = lambda failure: None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url = url.rstrip("/")
        self._timeout_s = timeout_s
        self._patience_s = patience_s
        self._waiting = waiting
        self._sleep = sleep
        headers = {"User-Agent": "hodei", "Accept": "application/json"}
        try:
            near = is_loopback(self.url)
        except ValueError as error:
            raise NotHodei.at(self.url, f"not an http URL: {error}") from error
        if near:
            headers["Accept-Encoding"] = "identity"  # packing costs more than it saves on one machine
        if token:
            headers["Authorization"] = f"Bearer {token}"
        try:
            self._http = httpx.Client(
                headers=headers,
                verify=self.url.startswith(
                    "https:"
                ),  # building a TLS context takes time that http does not need
                trust_env=not near,  # a proxy cannot reach this machine's own loopback
            )
        except (ValueError, httpx.InvalidURL) as error:
            raise ServerUnreachable(f"The proxy settings of this shell cannot be used: {error}.") from error

    def close(self) -> None:
        self._http.close()

    def get(
        self, path: str, *, wait_s: float = 0.0, patience_s: float | None = None, **parameters: Any
    ) -> Any:
        """The JSON that a GET answers. ``wait_s``: how long the server was asked to hold the answer back."""
        answer = self.send("GET", path, wait_s=wait_s, patience_s=patience_s, parameters=parameters)
        return self._json(answer)

    def post(self, path: str, body: dict[str, Any], *, idempotency_key: str) -> Any:
        """The JSON that a POST answers; sent again with the same key, so that it cannot do a thing twice."""
        headers = {"Idempotency-Key": idempotency_key}
        return self._json(self.send("POST", path, body=body, headers=headers))

    def pages(self, path: str, **parameters: Any) -> Iterator[Any]:
        """The items of a list, page after page, as they are asked for."""
        response = self.send("GET", path, parameters=parameters)
        while True:
            yield from self._json(response)
            following = NEXT_PAGE.search(response.headers.get("link", ""))
            if following is None:
                return
            # The server may know itself by another address than ours: only the path and the query are used.
            address = urlsplit(urljoin(str(response.url), following[1]))
            response = self.send("GET", f"{address.path}?{address.query}")

    def send(
        self,
        method: str,
        path: str,
        *,
        wait_s: float = 0.0,
        patience_s: float | None = None,
        parameters: Mapping[str, Any] | None = None,
        body: dict[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        accept: frozenset[int] = frozenset(),
    ) -> httpx.Response:
        """A successful answer, or one whose status is in ``accept``. ``patience_s``: other than usual, and at least a second."""
        given = {name: value for name, value in (parameters or {}).items() if value is not None}
        timeout_s = self._timeout_s + wait_s
        told = False
        for pause_s in self._pauses(patience_s):
            try:
                response = self._http.request(
                    method,
                    self.url + path,
                    params=given or None,
                    json=body,
                    headers=headers,
                    timeout=httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S),
                )
                if response.status_code not in UNAVAILABLE - accept:
                    return self._successful(response, accept)
                failure: ServerUnreachable = ServerUnavailable.at(self.url, _problem(response))
            except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
                raise NotHodei.at(self.url, f"not an http URL: {error}") from error
            except httpx.ConnectTimeout:
                failure, pause_s = (
                    ServerUnreachable.nobody_at(self.url, reason="no answer to the connection"),
                    None,
                )
            except httpx.TimeoutException:
                failure, pause_s = ServerSilent.at(self.url, timeout_s), None
            except httpx.ConnectError as error:
                reason = "" if "refused" in str(error).lower() else str(error)
                failure = ServerUnreachable.nobody_at(self.url, reason=reason)
            except (httpx.TransportError, httpx.DecodingError):
                failure = ConnectionLost.to(self.url)
            if pause_s is None:
                raise failure
            if pause_s == LONGEST_PAUSE_S and not told:
                told = True
                self._waiting(failure)
            self._sleep(pause_s)
        raise AssertionError("the last try either returns or raises")

    def _pauses(self, patience_s: float | None) -> Iterator[float | None]:
        """How long to wait after each failed try; None after the last one."""
        yield from BACK_OFF_S
        left_s = (self._patience_s if patience_s is None else patience_s) - sum(BACK_OFF_S)
        while left_s > 0:
            yield LONGEST_PAUSE_S
            left_s -= LONGEST_PAUSE_S
        yield None

    @contextmanager
    def stream(
        self,
        path: str,
        *,
        parameters: Mapping[str, Any],
        headers: Mapping[str, str],
        silence_s: float,
    ) -> Iterator[Iterator[bytes]]:
        """The body of a GET as it comes; it is not asked for again. ``silence_s``: after so long without a byte it is lost."""
        given = {name: value for name, value in parameters.items() if value is not None}
        timeout = httpx.Timeout(self._timeout_s, connect=CONNECT_TIMEOUT_S, read=silence_s)
        try:
            with self._http.stream(
                "GET", self.url + path, params=given, headers=dict(headers), timeout=timeout
            ) as response:
                if not response.is_success:
                    response.read()
                    if response.status_code in UNAVAILABLE:
                        raise ServerUnavailable.at(self.url, _problem(response))
                    self._successful(response, frozenset())
                yield response.iter_bytes()
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise NotHodei.at(self.url, f"not an http URL: {error}") from error
        except httpx.ConnectError as error:
            reason = "" if "refused" in str(error).lower() else str(error)
            raise ServerUnreachable.nobody_at(self.url, reason=reason) from error
        except httpx.TimeoutException as error:
            raise ServerSilent.at(self.url, silence_s) from error
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise ConnectionLost.to(self.url) from error

    def _successful(self, response: httpx.Response, accept: frozenset[int]) -> httpx.Response:
        if response.is_success or response.status_code in accept:
            return response
        problem = _problem(response)
        if "code" not in problem:
            raise NotHodei.at(self.url, f"HTTP {response.status_code} without a reason")
        raise ServerRefused(problem)

    def _json(self, response: httpx.Response) -> Any:
        try:
            return response.json()
        except ValueError as error:
            kind = response.headers.get("content-type", "no content type")
            raise NotHodei.at(self.url, f"it answered {kind}, not JSON") from error


def is_loopback(url: str) -> bool:
    """Whether the URL is on this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _problem(response: httpx.Response) -> dict[str, Any]:
    try:
        problem = response.json()
    except ValueError:
        problem = None
    return {"status": response.status_code, **(problem if isinstance(problem, dict) else {})}
