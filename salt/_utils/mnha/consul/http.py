"""One Consul server over HTTPS: what python-consul2's typed calls go through, for the guard and for Salt's side alike.

A request is sent once. It is never repeated, follows no redirect, and a connection on which one failed is closed. What
an answer's status means is said here, for both sides, in this project's errors; those of requests and python-consul2
do not leave this module. Whether another server is asked then is the business of who asks.
"""

from __future__ import annotations

import base64
import contextlib
import json
import ssl
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from consul import base
from urllib3.exceptions import HTTPError, ReadTimeoutError

from ..errors import ConfigurationError, FailedError, MnhaError, UnreachableError

UNKNOWN_TOKEN = "ACL not found"
"""What Consul says, with 403, to a token that it does not know; one that lacks a right is told :data:`DENIED`."""
DENIED = "Permission denied"
"""How Consul's word begins, with 403 or in a transaction's `Errors`, that a token lacks a right."""
MOST_BYTES, PART_BYTES = 32 * 1024 * 1024, 65536
"""A longer answer than the first is none: who reads it would swell instead of failing."""
NOT_NOW = (408, 429)
"""Statuses below 500 by which a server says that it can't just now: too slow, too many requests."""


class NotSentError(UnreachableError):
    """No connection came about: the server can't have taken the request, and another may be asked."""


class UnableError(UnreachableError):
    """It answered that it can't: no leader, no quorum, too much to do."""


class ForbiddenError(FailedError):
    """Consul knows the token but does not let it do this, or does not know it: the token or its policy is wrong."""


class UnknownTokenError(ForbiddenError):
    """Consul does not know the token."""


@dataclass(frozen=True)
class Reply:
    """An answer, as python-consul2's callbacks want it.

    :param headers: whose names may be written in any case.
    :param received_s: the caller's clock when it had been received as a whole; 0 if none was given.
    """

    code: int
    headers: Mapping[str, str]
    body: str
    content: bytes
    received_s: float


class Http(base.HTTPClient):
    """One server, for one thread at a time.

    Any call raises, whichever it is:

    - UnreachableError: no answer, or none that can be read; the server may have done it. Its kinds NotSentError and
      UnableError say more.
    - FailedError: the server does not accept the request, or does not know what was asked for; ForbiddenError and
      UnknownTokenError: because of the token.

    :param connect_s: how long opening a connection may take.
    :param token_name: what messages call the token.
    :param clock: stamps the answers, before they are looked at.
    """

    def __init__(
        self,
        host: str,
        port: int,
        ca_file: Path,
        connect_s: float,
        token_name: str,
        clock: Callable[[], float] = lambda: 0.0,
    ) -> None:
        super().__init__(host, port, "https", verify=str(ca_file))
        self.name, self._connect_s, self._token_name = f"{host}:{port}", connect_s, token_name
        self.token, self.timeout_s, self._clock = "", connect_s, clock
        self.reply: Reply | None = None
        """The last call's answer, None if there was none."""
        self.session = requests.Session()
        self.session.trust_env = False

    def set(self, token: str, timeout_s: float) -> None:
        """For the calls from now on.

        :param token: empty: none.
        :param timeout_s: how long the server may be silent, and how long its answer may take from its head to its end.
        """
        self.token, self.timeout_s = token, timeout_s

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        self.session.close()

    def request(
        self,
        method: str,
        path: str,
        params: Sequence[tuple[str, Any]] | None = None,
        headers: Mapping[str, str] | None = None,
        data: str | bytes = b"",
        also: Collection[int] = (),
    ) -> Reply:
        """Send one request; returns an answer that says that it was done, or 404, or a status of `also`."""
        self.reply = None
        sent = {"X-Consul-Token": self.token} if self.token else {}
        limits_s = (min(self._connect_s, self.timeout_s), self.timeout_s)
        try:
            answer = self.session.request(
                method,
                self.uri(path, params),
                data=data,
                headers={**sent, **(headers or {})},
                verify=self.verify,
                timeout=limits_s,
                allow_redirects=False,
                stream=True,
            )
            with contextlib.closing(answer):
                content = self._content(answer)
            received_s = self._clock()
            body = content.decode("utf-8", "replace")
            reply = Reply(answer.status_code, answer.headers, body, content, received_s)
        except (OSError, ValueError, HTTPError) as error:  # requests' errors are OSErrors
            self.close()
            kind = NotSentError if _was_never_sent(error) else UnreachableError
            raise kind(f"Consul at {self.name} does not answer: {_cause(error)}") from error
        self.reply = reply
        if not (200 <= reply.code < 300 or reply.code == 404 or reply.code in also):
            raise self.error(reply.code, reply.body, f"{method} {path}")
        return reply

    def _content(self, answer: requests.Response) -> bytes:
        """The body, as a whole.

        :raises OSError: it is longer than :data:`MOST_BYTES`, or takes longer than it may.
        """
        content, end_s = bytearray(), time.monotonic() + self.timeout_s
        while part := answer.raw.read1(PART_BYTES, decode_content=True):
            content += part
            if len(content) > MOST_BYTES:
                raise OSError(f"its answer is longer than {MOST_BYTES >> 20} MiB")
            if time.monotonic() > end_s:
                raise requests.exceptions.ReadTimeout
        return bytes(content)

    def error(self, code: int, body: str, request: str) -> UnreachableError | FailedError:
        """What a status other than success means."""
        text = f"{code} {body.strip()[:120]}"
        if code >= 500 or code in NOT_NOW:
            return UnableError(f"Consul at {self.name} can't: {text}")
        if code == 403:
            kind = UnknownTokenError if UNKNOWN_TOKEN in body else ForbiddenError
            return kind(
                f"Consul at {self.name} does not allow {request} with {self._token_name} ({text}): apply states.consul"
            )
        return FailedError(f"Consul at {self.name} does not accept {request}: {text}")

    def call(
        self,
        callback: Callable[[Reply], Any],
        method: str,
        path: str,
        params: Any = None,
        headers: Any = None,
        data: Any = b"",
        also: Collection[int] = (),
    ) -> Any:
        """A typed call: :meth:`request`, and what `callback` makes of its answer."""
        reply = self.request(method, path, params, headers, data, also)
        try:
            return callback(reply)
        except base.ConsulException as error:
            raise FailedError(f"Consul at {self.name} does not know what {method} {path} asks for: {error}") from error
        except MnhaError:
            raise
        except Exception as error:  # whatever python-consul2 or this project's reader makes of nonsense
            raise UnreachableError(
                f"Consul at {self.name} gave an answer to {method} {path} that can't be read: {error!r}"
            ) from error

    def get(self, callback: Any, path: str, params: Any = None, headers: Any = None) -> Any:
        """For python-consul2, as the next three."""
        return self.call(callback, "GET", path, params, headers)

    def put(self, callback: Any, path: str, params: Any = None, data: Any = b"", headers: Any = None) -> Any:
        return self.call(callback, "PUT", path, params, headers, data)

    def delete(self, callback: Any, path: str, params: Any = None, data: Any = b"", headers: Any = None) -> Any:
        return self.call(callback, "DELETE", path, params, headers, data)

    def post(self, callback: Any, path: str, params: Any = None, data: Any = b"", headers: Any = None) -> Any:
        return self.call(callback, "POST", path, params, headers, data)


class Server(base.Consul):
    """python-consul2's typed calls to one server, each with the token and the timeout that `http` was last given.

    The library lets environment variables win over arguments, for the address and the token: on a host where somebody
    set CONSUL_HTTP_ADDR that would lead elsewhere. So it is asked for neither.
    """

    def __init__(self, http: Http) -> None:
        self._given = http
        super().__init__()
        self.token = None

    def http_connect(self, *_: Any, **__: Any) -> Http:
        """The library's hook for its transport."""
        return self._given

    def cas(self, key: str, value: bytes, index: int) -> int | None:
        """Write `value` if `key` still has ModifyIndex `index` (0: it does not exist).

        By a transaction, because its answer names the new ModifyIndex; a plain ``PUT ?cas=`` says only *true*, and who
        writes again would have to wait for a read. The library's own call for it takes a no (409) for an error. That a
        right is lacking comes with 409, too.

        :returns: the new ModifyIndex; None: refused. Only Consul's own word is a no: any other answer raises.
        """
        operation = {"Verb": "cas", "Key": key, "Value": base64.b64encode(value).decode(), "Index": index}

        def outcome(reply: Reply) -> int | None:
            answer = json.loads(reply.body)
            if reply.code != 409:
                written = answer["Results"][0]["KV"]
                if answer.get("Errors") or written.get("Key", key) != key:
                    raise ValueError("not the write that was asked for")
                return after(index, written["ModifyIndex"])
            why = answer["Errors"][0]["What"]
            if not isinstance(why, str):
                raise TypeError("no reason")
            if DENIED in why:
                raise self._given.error(403, why, f"writing {key}")
            return None

        data = json.dumps([{"KV": operation}])
        found: int | None = self._given.call(outcome, "PUT", "/v1/txn", data=data, also=(409,))
        return found


def after(index: int, found: Any) -> int:
    """A ModifyIndex from an answer, which has to come after `index`.

    :raises ValueError: it does not, or is none.
    """
    if type(found) is not int or found <= index:
        raise ValueError(f"{found!r} is no index after {index}")
    return found


def read_token(path: Path) -> str:
    """The token in `path`; a missing file is named with the state that writes it."""
    try:
        token = path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise ConfigurationError(
            f"cannot read the Consul token {path}: {error.strerror}; state.apply states.consul writes it"
        ) from error
    except ValueError as error:
        raise ConfigurationError(f"the Consul token {path} is none; state.apply states.consul writes it") from error
    if not token:
        raise ConfigurationError(f"the Consul token {path} is empty; state.apply states.consul writes it")
    return token


def _reason(error: Exception) -> Any:
    """What urllib3, below requests, gives as the reason why it gave up; None if it is not known."""
    return getattr(error.args[0], "reason", None) if error.args else None


def _is_not_opened(error: Exception) -> bool:
    """Whether no TCP connection was opened."""
    return type(_reason(error)).__name__ in ("NewConnectionError", "ConnectTimeoutError", "NameResolutionError")


def _was_never_sent(error: Exception) -> bool:
    """Whether the request cannot have reached the server. Other TLS errors than a wrong certificate don't say so: they
    also end a connection in use."""
    if isinstance(error, requests.exceptions.SSLError):
        reason = _reason(error)
        return reason is not None and any(isinstance(one, ssl.SSLCertVerificationError) for one in reason.args)
    return isinstance(error, requests.exceptions.ConnectTimeout | requests.exceptions.InvalidURL) or (
        isinstance(error, requests.exceptions.ConnectionError) and _is_not_opened(error)
    )


def _cause(error: Exception) -> str:
    """A short reason for a message."""
    if isinstance(error, requests.exceptions.Timeout | ReadTimeoutError):
        return "timed out"
    if isinstance(error, requests.exceptions.SSLError):
        return f"certificate not accepted: {error.args[0] if error.args else error}"
    if isinstance(error, requests.exceptions.ConnectionError):
        return "connection refused" if _is_not_opened(error) else "connection lost"
    return str(error).strip() or type(error).__name__
