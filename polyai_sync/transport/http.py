"""The two REST calls, one attempt at a time (protocol.md §2).

Whoever calls decides on retries: nothing here repeats anything, or follows a redirect, which would carry the tokens to
another origin (``pitfalls.md`` 32, 39). Exceptions hold no token, nor does anything reachable from them.
"""

from __future__ import annotations

import copy
import json
import os
import time
import weakref
from collections import OrderedDict
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

import requests
import urllib3.exceptions
from attrs import field, frozen
from requests.adapters import HTTPAdapter
from requests.cookies import RequestsCookieJar
from requests.structures import CaseInsensitiveDict
from requests.utils import select_proxy
from urllib3.poolmanager import PoolManager

from polyai_sync.errors import PolyAIError, ProtocolError
from polyai_sync.redaction import Redactor, redact_url
from polyai_sync.transport.answers import (
    CORRELATION_ID,
    Answer,
    first_text,
    json_object,
    lifetime,
    read_answer,
    refusal,
)
from polyai_sync.transport.failures import address, network_error
from polyai_sync.transport.timed import DeadlineAdapter, limits

if TYPE_CHECKING:
    from polyai_sync.config import Secret, Settings
    from polyai_sync.transport.deadline import Deadline

__all__ = ["AccessToken", "HttpTransport", "RequestObserver"]


@frozen(kw_only=True)
class AccessToken:
    """A short-lived token, such as a back end hands to a front end.

    Every one stands for a new user (protocol.md §2): a session belongs to the token that created it.

    Attributes:
        value: The token itself; hidden in ``repr``.
        expires_in: Seconds that it was given when it was minted.
        expires_at: When those are over, by this machine's clock, in UTC.
    """

    value: str = field(repr=False)
    expires_in: float
    expires_at: datetime


class RequestObserver(Protocol):
    """Told of each HTTP attempt, on the thread that makes it."""

    def on_request(self, operation: str, attempt: int, method: str, url: str, correlation_id: str) -> None:
        """An attempt begins. ``url`` is redacted."""

    def on_response(
        self,
        operation: str,
        attempt: int,
        status: int | None,
        seconds: float,
        correlation_id: str,
        error: PolyAIError | None,
    ) -> None:
        """It is over: with an HTTP status, or with an error where no answer came."""


class HttpTransport:
    """Mints tokens and creates sessions. Any number of threads may use one.

    A ``requests.Session`` is not safe to share, so each call has one of its own with the settings of the caller's;
    what they share are the adapters, whose pools are safe. The caller's session is never written to, its cookies
    included (``pitfalls.md`` 28). Nothing is opened before the first call, and a forked process opens its own.

    Args:
        settings: Where to connect, and as whom.
        http: The caller's session: proxies, adapters, headers, CA bundle, client certificate. Adapters that are
            requests' own as it made them are replaced by ours; changed ones are used as they are.
    """

    def __init__(self, settings: Settings, *, http: requests.Session | None = None) -> None:
        self._settings = settings
        self._http = http
        self._made_in = os.getpid()
        self._pools: dict[int, _Pool] = {}

    def mint_access_token(
        self, *, deadline: Deadline, attempt: int, correlation_id: str, observer: RequestObserver | None
    ) -> AccessToken:
        """Exchange the connector token for an access token of a new user.

        Args:
            deadline: For the whole attempt; `Timeouts.connect` and `Timeouts.read` count too.
            attempt: Which one it is, from 1; for the observer.
            correlation_id: The same for all attempts of one call.
            observer: Told of the attempt, or ``None``.

        Raises:
            ConnectionFailedError: No answer came.
            ProtocolError: A 2xx without a usable token.
            ConfigurationError: A CA bundle, certificate or proxy setting cannot be used.
            PolyAIError: The refusal, as the catalogue names it.
        """
        answer = self._call(
            "access_token", "/api/v1/access-token", {}, None, deadline, attempt, correlation_id, observer
        )
        token = first_text(answer, "access_token", "accessToken")
        if token is None:
            del answer  # tracebacks keep locals
            raise ProtocolError("The answer holds no usable access token", surface="access_token")
        expires_in = lifetime(answer.get("expires_in", answer.get("expiresIn")))
        expires_at = datetime.now(timezone.utc) + timedelta(seconds=expires_in)
        return AccessToken(value=token, expires_in=expires_in, expires_at=expires_at)

    def create_session(
        self,
        token: Secret,
        *,
        streaming: bool,
        deadline: Deadline,
        attempt: int,
        correlation_id: str,
        observer: RequestObserver | None,
    ) -> str:
        """Create a session that belongs to ``token``; its id.

        Arguments and errors as `mint_access_token`, which see.
        """
        settings = self._settings
        body: dict[str, Any] = {"streaming_enabled": streaming, "platform": settings.platform}
        if settings.device_type is not None:
            body["device_type"] = settings.device_type
        answer = self._call(
            "session_create", "/api/v1/sessions", body, token, deadline, attempt, correlation_id, observer
        )
        session_id = first_text(answer, "session_id", "sessionId", "id")
        if session_id is None:
            del answer
            raise ProtocolError("The answer holds no usable session id", surface="session_create")
        return session_id

    def environment(self, url: str) -> dict[str, Any]:
        """``proxies``, ``verify`` and ``cert`` for a URL: the caller's session's, and the environment's.

        Args:
            url: With ``http`` or ``https``, also where a WebSocket is meant: requests knows no other.
        """
        session = self._session()
        return dict(session.merge_environment_settings(url, {}, None, None, None))

    def proxy_headers(self, url: str, proxy: str) -> dict[str, str]:
        """The headers for a proxy on the way to ``url``, its authorisation among them."""
        adapter = self._session().get_adapter(url)
        return dict((adapter if isinstance(adapter, HTTPAdapter) else self._pool().own).proxy_headers(proxy))

    def close(self) -> None:
        """Close the connections kept open. The caller's own adapters are left alone; a later call opens new ones."""
        pool = self._pools.pop(os.getpid(), None)
        if pool:
            for adapter in (pool.own, *pool.copies.values()):
                adapter.close()

    # -- one attempt ------------------------------------------------------------------------------------------------

    def _call(
        self,
        operation: str,
        path: str,
        body: dict[str, Any],
        token: Secret | None,
        deadline: Deadline,
        attempt: int,
        correlation_id: str,
        observer: RequestObserver | None,
    ) -> dict[str, Any]:
        """One attempt, told to the observer; the JSON object of its 2xx answer."""
        url = self._settings.base_url + path
        if observer:
            observer.on_request(operation, attempt, "POST", redact_url(url), correlation_id)
        started = time.monotonic()
        status: int | None = None
        error: PolyAIError | None = None
        try:
            answer = self._attempt(operation, url, body, token, deadline, correlation_id)
            status = answer.status
        except PolyAIError as caught:
            error = caught
            raise
        finally:
            # A KeyboardInterrupt is neither an answer nor an error.
            if observer and (status is not None or error is not None):
                observer.on_response(operation, attempt, status, time.monotonic() - started, correlation_id, error)
            del error  # its traceback holds this frame
        if not 200 <= status < 300:
            redactor = Redactor(self._settings.connector_token, token)
            raise refusal(operation, answer, redactor)
        return json_object(operation, answer)

    def _attempt(
        self,
        operation: str,
        url: str,
        body: dict[str, Any],
        token: Secret | None,
        deadline: Deadline,
        correlation_id: str,
    ) -> Answer:
        started = time.monotonic()
        caught: Exception
        try:
            return self._send(url, body, token, deadline, correlation_id)
        # ValueError: what requests and http.client say to a URL or a header that they cannot use.
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            caught = error
        # Raised out here, where the exceptions that hold the request do not become its context.
        failure = network_error(
            caught,
            surface=operation,
            where=str(address(url)),
            proxy=address(select_proxy(url, self.environment(url)["proxies"])),
            waited=time.monotonic() - started,
        )
        del caught
        raise failure

    def _send(
        self, url: str, body: dict[str, Any], token: Secret | None, deadline: Deadline, correlation_id: str
    ) -> Answer:
        if deadline.expired():
            raise TimeoutError("timed out")
        timeouts = self._settings.timeouts
        # Enough for adapters that are not ours; ours keep to the deadline between two bytes as well.
        timeout = deadline.clip(timeouts.connect), deadline.clip(timeouts.read)
        with limits(deadline, connect=timeouts.connect, read=timeouts.read):
            response = self._session().post(
                url,
                data=json.dumps(body, separators=(",", ":")),
                headers=self._headers(token, correlation_id),
                # Without one, requests would put the user of a .netrc into our Authorization header.
                auth=_as_it_is,
                timeout=timeout,
                allow_redirects=False,
                stream=True,
            )
            try:
                return read_answer(response, deadline.within(timeouts.read))
            finally:
                response.close()

    def _headers(self, token: Secret | None, correlation_id: str) -> dict[str, str]:
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            # The answers are small, and what is not packed cannot burst.
            "Accept-Encoding": "identity",
            "User-Agent": self._settings.user_agent,
            CORRELATION_ID: correlation_id,
        }
        if token is None:
            return headers | {"X-Token": self._settings.connector_token.reveal(), "X-Host": self._settings.host}
        return headers | {"Authorization": f"Bearer {token.reveal()}"}

    # -- sessions and adapters --------------------------------------------------------------------------------------

    def _session(self) -> requests.Session:
        """A session of this call's own, which shares the adapters."""
        session = requests.Session() if self._http is None else self._copy_of(self._http)
        if self._http is None:
            session.adapters = OrderedDict.fromkeys(("https://", "http://"), self._pool().own)
        # Also where it shall not follow a redirect, requests would prepare it, tokens and all, and read the whole body.
        session.__dict__["get_redirect_target"] = _nowhere
        # Weak, as it would be a cycle else, and wait for the garbage collector.
        session.__dict__.setdefault("merge_environment_settings", partial(_merged, weakref.proxy(session)))
        return session

    def _copy_of(self, theirs: requests.Session) -> requests.Session:
        pool = self._pool()
        # Of its own class, with what that class keeps: it may override how requests are made.
        session = type(theirs).__new__(type(theirs))
        session.__dict__.update(theirs.__dict__)
        session.headers = CaseInsensitiveDict(theirs.headers)
        session.cookies = RequestsCookieJar()
        session.cookies.update(theirs.cookies)
        session.proxies = dict(theirs.proxies or {})
        session.hooks = {event: hooks if callable(hooks) else list(hooks) for event, hooks in theirs.hooks.items()}
        session.params = copy.copy(theirs.params)
        session.adapters = OrderedDict(
            (prefix, pool.own if _is_plain(adapter) else pool.copies.get(id(adapter), adapter))
            for prefix, adapter in theirs.adapters.items()
        )
        return session

    def _pool(self) -> _Pool:
        """What this process's calls share.

        Without a lock, which a thread that did not survive a fork could hold for ever; ``setdefault`` is atomic.
        """
        pid = os.getpid()
        pool = self._pools.get(pid)
        if pool is None:
            copies: dict[int, Any] = {}
            if self._http is not None and pid != self._made_in:
                copies = {id(adapter): _copied(adapter) for adapter in self._http.adapters.values()}
            pool = self._pools.setdefault(pid, _Pool(DeadlineAdapter(), copies))
        return pool


@frozen
class _Pool:
    own: DeadlineAdapter
    copies: dict[int, Any]
    """In a forked process: the caller's adapters, by the ``id`` of the original, with pools of their own."""


#: How often the environment is looked at again where it has changed meanwhile.
_LOOKS: Final = 10

#: What an adapter of requests' holds that nobody has changed, and what its pool manager is given.
_PLAIN: Final = frozenset(vars(HTTPAdapter()))
_PLAIN_POOL: Final = frozenset(HTTPAdapter().poolmanager.connection_pool_kw)


def _is_plain(adapter: object) -> bool:
    """Is it requests' own adapter, as it was made but for its numbers?"""
    return (
        type(adapter) is HTTPAdapter
        and vars(adapter).keys() <= _PLAIN
        and type(adapter.poolmanager) is PoolManager
        and adapter.poolmanager.connection_pool_kw.keys() <= _PLAIN_POOL
    )


def _copied(adapter: Any) -> Any:
    """A copy of the adapter with connections of its own, for a forked process; the original where that cannot be.

    As requests' own ``__setstate__`` does it, but keeping the attributes of a subclass.
    """
    if not isinstance(adapter, HTTPAdapter):
        return adapter
    fresh: Any = type(adapter).__new__(type(adapter))
    fresh.__dict__.update(adapter.__dict__)
    fresh.proxy_manager = {}
    fresh.init_poolmanager(fresh._pool_connections, fresh._pool_maxsize, block=fresh._pool_block)
    return fresh


def _merged(session: requests.Session, *arguments: Any, **named: Any) -> Any:
    """What a session makes of a request's settings and the environment's.

    requests goes through the environment's variables, and fails with a `KeyError` where another thread takes one of
    them away meanwhile, as pytest does with its ``PYTEST_CURRENT_TEST`` after each phase of a test.
    """
    merge = partial(session.__class__.merge_environment_settings, session, *arguments, **named)
    for _ in range(_LOOKS):
        with suppress(KeyError):
            return merge()
    return merge()


def _nowhere(response: requests.Response) -> None:
    """Where a redirect leads."""


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request
