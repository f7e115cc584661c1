"""Reading the answer to a REST call: bounded, tolerant of spellings, strict where a token is concerned."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Final

import requests
import urllib3.exceptions
from attrs import field, frozen

from polyai_sync.errors import ConnectionFailedError, PolyAIError, ProtocolError
from polyai_sync.refusals import error_from_response, parse_retry_after

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from polyai_sync.redaction import Redactor
    from polyai_sync.transport.deadline import Deadline

__all__ = [
    "BODY_LIMIT",
    "CORRELATION_ID",
    "DEFAULT_LIFETIME",
    "Answer",
    "first_text",
    "json_object",
    "lifetime",
    "read_answer",
    "refusal",
]

#: Bytes of a body that are read. An honest one has a few hundred.
BODY_LIMIT: Final = 64 * 1024

#: Seconds that a token lives whose lifetime is not told (protocol.md §2).
DEFAULT_LIFETIME: Final = 3600.0

#: A lifetime above this (100 years) is taken for a mistake.
LONGEST_LIFETIME: Final = 100 * 365 * 86_400.0

CORRELATION_ID: Final = "X-Polyai-Correlation-Id"


@frozen
class Answer:
    """An HTTP answer, as far as it was read.

    Attributes:
        status: The HTTP status.
        headers: Looked up in any case.
        body: At most `BODY_LIMIT` bytes.
        complete: Was all of the body read?
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)  # it may hold a token, and tracebacks show locals by their repr
    complete: bool


def read_answer(response: requests.Response, deadline: Deadline) -> Answer:
    """The answer, with as much of its body as comes in time."""
    body, complete = _read_body(response, deadline)
    return Answer(response.status_code, response.headers, body, complete)


def _read_body(response: requests.Response, deadline: Deadline) -> tuple[bytes, bool]:
    """At most `BODY_LIMIT` bytes of a body, and whether that is all of it.

    What breaks off, or does not come in time, counts as far as it came: the status still says what to do.
    """
    body = bytearray()
    try:
        for chunk in _chunks(response):
            body += chunk
            if len(body) > BODY_LIMIT:
                return bytes(body[:BODY_LIMIT]), False
            if deadline.expired():
                return bytes(body), False
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError):
        return bytes(body), False
    return bytes(body), True


def _chunks(response: requests.Response) -> Iterator[bytes]:
    """The body as it comes in: a wait for a full chunk would be one that a slow server draws out for ever."""
    raw = response.raw
    consumed = getattr(response, "_content_consumed", False)  # by a hook of the caller's
    if consumed or not isinstance(raw, urllib3.HTTPResponse) or not hasattr(raw, "read1"):
        yield from response.iter_content(1)  # it comes back when it has so many, so ask for one
        return
    while chunk := raw.read1(16 * 1024, decode_content=True):
        yield chunk


def refusal(operation: str, answer: Answer, redactor: Redactor) -> PolyAIError:
    """The error that an answer other than 2xx stands for."""
    return error_from_response(
        operation,
        answer.status,
        answer.body,
        retry_after=parse_retry_after(answer.headers.get("Retry-After"), time.time()),
        request_id=answer.headers.get(CORRELATION_ID),
        redactor=redactor,
    )


def json_object(operation: str, answer: Answer) -> dict[str, Any]:
    """The JSON object in the body of a 2xx.

    Raises:
        ProtocolError: There is none.
        ConnectionFailedError: The body broke off.
    """
    if not answer.complete:
        if len(answer.body) >= BODY_LIMIT:
            raise ProtocolError(
                f"The answer is longer than {BODY_LIMIT} bytes", surface=operation, status=answer.status
            )
        raise ConnectionFailedError("The answer broke off, or took too long. Try again", surface=operation)
    try:
        decoded = json.loads(answer.body.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        decoded = None
    if not isinstance(decoded, dict):
        raise ProtocolError("The answer is not a JSON object", surface=operation, status=answer.status)
    return decoded


def first_text(answer: Mapping[str, Any], *names: str) -> str | None:
    """The first of the fields that can be sent on in a header or a URL: visible ASCII, nothing else."""
    for name in names:
        value = answer.get(name)
        if isinstance(value, str) and value and all("!" <= letter <= "~" for letter in value):
            return value
    return None


def lifetime(value: object) -> float:
    """Seconds; the default where the value says nothing sensible."""
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            seconds = float(value)
        except (ValueError, OverflowError):
            return DEFAULT_LIFETIME
        if 0 < seconds <= LONGEST_LIFETIME:  # nan is neither
            return seconds
    return DEFAULT_LIFETIME
