"""One Consul server over HTTPS: what python-consul2's typed calls go through, for the guard and for Salt's side alike.

A request is sent once. It is never repeated, follows no redirect, and a connection on which one failed is closed. What
an answer's status means is said here, for both sides, in this project's errors; those of http.client and
python-consul2 do not leave this module. Whether another server is asked then is the business of who asks.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import importlib.util
import json
import select
import ssl
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError, FailedError, MnhaError, UnreachableError

if TYPE_CHECKING:
    from consul import base
else:

    def _base() -> Any:
        """python-consul2's typed calls alone. Its package would import its own transport as well, and with that
        requests: 6.6 MiB in the guard and a tenth of a second of each `zsha`, for nothing.
        """
        package = importlib.util.find_spec("consul")
        if package is None or not package.submodule_search_locations:
            raise ImportError("python-consul2 is not installed", name="consul")
        (folder,) = package.submodule_search_locations
        spec = importlib.util.spec_from_file_location("consul.base", Path(folder) / "base.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    base = _base()

CB = base.CB
"""python-consul2's readers of answers, for a call that it does not have."""
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


class Headers(dict[str, str]):
    """The headers of an answer; names are asked for in any case."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        super().__init__((name.lower(), value) for name, value in pairs)

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def get(self, name: str, default: Any = None) -> Any:
        """As of any mapping."""
        return super().get(name.lower(), default)


@dataclass(frozen=True)
class Reply:
    """An answer, as python-consul2's callbacks want it.

    :param received_s: the caller's clock when it had been received as a whole; 0 if none was given.
    """

    code: int
    headers: Headers
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
        self.base_uri = ""  # what is asked for is a path
        self.name, self._connect_s, self._token_name = f"{host}:{port}", connect_s, token_name
        self.token, self.timeout_s, self._clock = "", connect_s, clock
        self.reply: Reply | None = None
        """The last call's answer, None if there was none."""
        self._connection: http.client.HTTPSConnection | None = None

    def set(self, token: str, timeout_s: float) -> None:
        """For the calls from now on.

        :param token: empty: none.
        :param timeout_s: how long the server may be silent, and how long its answer may take from its head to its end.
        """
        self.token, self.timeout_s = token, timeout_s

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        connection, self._connection = self._connection, None
        if connection:
            connection.close()

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
        sent = {**({"X-Consul-Token": self.token} if self.token else {}), **(headers or {})}
        body = data.encode() if isinstance(data, str) else data
        try:
            connection = self._opened()
        except (OSError, ValueError) as error:
            raise NotSentError(f"Consul at {self.name} does not answer: {_cause(error)}") from error
        try:
            connection.request(method, self.uri(path, params), body or None, sent)
            with contextlib.closing(connection.getresponse()) as answer:
                content = self._content(answer)
        except BaseException as error:
            self.close()  # what it may still bring belongs to no later request
            if not isinstance(error, OSError | ValueError | http.client.HTTPException):
                raise
            raise UnreachableError(f"Consul at {self.name} does not answer: {_cause(error)}") from error
        received_s = self._clock()
        reply = self.reply = Reply(
            answer.status, Headers(answer.getheaders()), content.decode("utf-8", "replace"), content, received_s
        )
        if not (200 <= reply.code < 300 or reply.code == 404 or reply.code in also):
            raise self.error(reply.code, reply.body, f"{method} {path}")
        return reply

    def _opened(self) -> http.client.HTTPSConnection:
        """The connection: another one where there is none, or where the server has ended it meanwhile.

        :raises OSError: it can't be opened, or the server's certificate is not accepted.
        """
        if self._connection and _has_ended(self._connection):
            self.close()
        if self._connection is None:
            limit_s, context = min(self._connect_s, self.timeout_s), _trusting(self.verify)
            connection = http.client.HTTPSConnection(self.host, self.port, timeout=limit_s, context=context)
            try:
                connection.connect()
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        self._connection.sock.settimeout(self.timeout_s)
        return self._connection

    def _content(self, answer: http.client.HTTPResponse) -> bytes:
        """The body, as a whole.

        :raises OSError: it is longer than :data:`MOST_BYTES`, or takes longer than it may.
        :raises HTTPException: it is shorter than its head says.
        """
        content, end_s = bytearray(), time.monotonic() + self.timeout_s
        while part := answer.read1(PART_BYTES):
            content += part
            if len(content) > MOST_BYTES:
                raise OSError(f"its answer is longer than {MOST_BYTES >> 20} MiB")
            if time.monotonic() > end_s:
                raise TimeoutError
        if answer.length:
            raise http.client.IncompleteRead(bytes(content), answer.length)
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


def _trusting(ca_file: str) -> ssl.SSLContext:
    """TLS with servers whose certificates are of one authority only.

    :raises OSError: its file can't be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(ca_file)
    except OSError as error:
        why = error.strerror or error
        raise OSError(f"cannot read the certificate {ca_file}: {why}; state.apply states.consul writes it") from error
    return context


def _has_ended(connection: http.client.HTTPSConnection) -> bool:
    """Whether the server has closed a connection on which nothing is under way, or says something unasked."""
    if connection.sock is None:
        return True
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))


def _cause(error: BaseException) -> str:
    """A short reason for a message."""
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate not accepted: {error.verify_message}"
    if isinstance(error, http.client.IncompleteRead | ConnectionError) and not isinstance(
        error, ConnectionRefusedError
    ):
        return "connection lost"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error).strip() or type(error).__name__
