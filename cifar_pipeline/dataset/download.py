"""A download that is judged by its content alone, whatever the server says about it.

pooch was considered: it verifies and replaces atomically, but it starts every attempt from
nothing. urllib3's retries are not used: they log the whole address, credentials included.
"""

import gzip
import re
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from http.client import responses
from pathlib import Path

import requests
import urllib3
from tqdm import tqdm

from cifar_pipeline.artifacts import free_bytes, replacing_file
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.settings.data import redacted

CHUNK = 1 << 16
ATTEMPTS = 5
LIMIT = 1 << 30  # bytes; upstream's archive has 169 million
TIMEOUT = 30.0  # seconds without a byte
PASSING = {408, 425, 429, 500, 502, 503, 504}
"""Statuses that are worth another attempt."""
ANOTHER = (
    "Set CIFAR_ARCHIVE to another address, or to the path of a copy; CIFAR_ARCHIVE_SHA256 must "
    "be set too if that is not upstream's file"
)


class _InterruptedError(Exception):
    """An attempt that broke off for a reason that may pass."""


@dataclass(frozen=True)
class _Answer:
    """What became of one request that ended without an error."""

    resumed: bool  # what the file holds came in more than one answer
    whole: bool | None  # whether the server says that this is all; None: it does not say
    encoded: bool  # the server says that the file was gzipped for the transfer


def download(
    url: str, partial: Path, is_right: Callable[[Path], bool], *, back_off: float = 1.0
) -> bool:
    """Fetch `url` into `partial`, resuming what is there; False if what came whole is not right.

    Args:
        partial: kept when the download breaks off, so that the next call can resume it.
        is_right: decides whether the file is what was wanted, and so when the download is done.
        back_off: seconds before the second attempt; doubled for each one after.

    Raises: PipelineError when the server cannot be reached, refuses, or sends too much; OSError
        when the file cannot be written.
    """
    last_size, restarted, reason = -1, False, ""
    with requests.Session() as session:
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(back_off * 2 ** (attempt - 1))
            try:
                answer = _request(session, url, partial)
            except _InterruptedError as error:
                reason = str(error)
                if partial.exists() and is_right(partial):
                    return True
                continue
            if is_right(partial) or (answer.encoded and _decode(partial) and is_right(partial)):
                return True
            size = partial.stat().st_size
            if not answer.whole and size != last_size:
                last_size, reason = size, "the connection closed before the end"
            elif answer.resumed and not restarted:
                # The parts may not fit together: from two addresses, or from before and after a
                # change, or the server sent another part than it said.
                partial.unlink()
                last_size, restarted = -1, True
                reason = "what was resumed turned out not to be the archive"
            else:
                return False
    raise PipelineError(
        f"{redacted(url)} cannot be fetched, after {ATTEMPTS} attempts: {reason}. Check the "
        f"network and run again. {ANOTHER}."
    )


def check_answers(url: str, timeout: float = 5.0, back_off: float = 0.5) -> None:
    """Make the request that `download` makes first, and read the beginning of the answer.

    HEAD would not do: signed addresses answer GET alone.

    Raises: PipelineError that says why the address cannot be fetched.
    """
    reason = ""
    with requests.Session() as session:
        for attempt in range(2):
            if attempt:
                time.sleep(back_off)
            try:
                with _open(session, url, {}, timeout) as response:
                    if next(_chunks(response), b""):
                        return
                    reason = "the answer is empty"
            except _InterruptedError as error:
                reason = str(error)
    raise PipelineError(f"{redacted(url)} cannot be fetched: {reason}. {ANOTHER}.")


def _open(
    session: requests.Session, url: str, headers: dict[str, str], timeout: float
) -> requests.Response:
    """The server's answer of 200, 206 or 416, its body not yet read."""
    # An archive is compressed already. Some servers call it `gzip`-encoded all the same.
    headers = {"Accept-Encoding": "identity", **headers}
    try:
        response = session.get(url, headers=headers, stream=True, timeout=timeout)
    except requests.exceptions.SSLError as error:
        raise _refusal(url, f"its certificate is not accepted ({_cause(error)})") from None
    except requests.Timeout:
        raise _InterruptedError(f"no answer within {timeout:g} seconds") from None
    except requests.ConnectionError as error:
        raise _InterruptedError(_cause(error)) from None
    except requests.TooManyRedirects:
        raise _refusal(url, "it redirects without end") from None
    except (requests.RequestException, ValueError):
        raise _refusal(url, "it is not a valid address, or redirects to one that is not") from None
    code = response.status_code
    if code in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT) or (code == 416 and "Range" in headers):
        return response
    response.close()
    phrase = responses.get(code, "an unknown status")
    if code in PASSING:
        raise _InterruptedError(f"the server answered {code} ({phrase})")
    hint = "; the address may need credentials, or have expired" if code in (401, 403) else ""
    raise _refusal(url, f"the server answered {code} ({phrase}){hint}")


def _request(session: requests.Session, url: str, partial: Path) -> _Answer:
    """One request for what `partial` lacks, and its answer added to it."""
    have = partial.stat().st_size if partial.exists() else 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    with _open(session, url, headers, TIMEOUT) as response:
        if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return _Answer(resumed=True, whole=True, encoded=False)  # nothing lies behind it
        total: int | None
        if response.status_code == HTTPStatus.PARTIAL_CONTENT:
            start, total = _content_range(response)
            if start != have:
                partial.unlink(missing_ok=True)  # the next attempt asks for all of it
                raise _InterruptedError("the server sent another part than it was asked for")
        else:
            have, total = 0, _number(response.headers.get("Content-Length"))
        _check_room(url, partial, have, total)
        size = _receive(url, response, partial, have, total)
        ended = True if "chunked" in response.headers.get("Transfer-Encoding", "") else None
        return _Answer(
            resumed=have > 0,
            whole=ended if total is None else size >= total,
            encoded="gzip" in response.headers.get("Content-Encoding", "").lower(),
        )


def _check_room(url: str, partial: Path, have: int, total: int | None) -> None:
    if total is None:
        return
    if total > LIMIT:
        raise _refusal(url, f"it has {total:,} bytes, and the archive 169 million")
    if total - have > (free := free_bytes(partial.parent)):
        raise PipelineError(
            f"{redacted(url)} needs {total - have:,} bytes, {partial.parent} has {free:,}. "
            "Free some space and run again."
        )


def _receive(
    url: str, response: requests.Response, partial: Path, have: int, total: int | None
) -> int:
    """Add the body to the first `have` bytes of `partial`; the size that it then has."""
    bar = tqdm(
        total=total, initial=have, unit="B", unit_scale=True, desc="archive", mininterval=1.0
    )
    with partial.open("ab" if have else "wb") as file, bar:
        for chunk in _chunks(response):
            have += file.write(chunk)
            bar.update(len(chunk))
            if have > LIMIT:
                break
    if have > LIMIT:
        partial.unlink()
        raise _refusal(url, f"more than {LIMIT:,} bytes came, and the archive has 169 million")
    return have


def _chunks(response: requests.Response) -> Iterator[bytes]:
    """The body as it was sent, without undoing what `Content-Encoding` claims."""
    try:
        yield from response.raw.stream(CHUNK, decode_content=False)
    except urllib3.exceptions.TimeoutError:
        raise _InterruptedError("the server stopped sending") from None
    except (urllib3.exceptions.HTTPError, OSError):
        raise _InterruptedError("the connection broke off before the end") from None


def _content_range(response: requests.Response) -> tuple[int | None, int | None]:
    """First byte and total size of a partial answer; None for what it does not say."""
    unit, _, rest = response.headers.get("Content-Range", "").partition(" ")
    span, _, total = rest.partition("/")
    return (_number(span.partition("-")[0]) if unit == "bytes" else None), _number(total)


def _number(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch("[0-9]{1,18}", text) else None


def _decode(partial: Path) -> bool:
    """Undo a transfer's compression; False, and nothing changed, where there is none."""
    try:
        with (
            replacing_file(partial) as temporary,
            gzip.open(partial) as zipped,
            temporary.open("wb") as file,
        ):
            while chunk := zipped.read(CHUNK):
                file.write(chunk)
                if file.tell() > LIMIT:
                    raise EOFError
    except (EOFError, gzip.BadGzipFile, zlib.error):
        return False
    return True


def _refusal(url: str, reason: str) -> PipelineError:
    return PipelineError(f"{redacted(url)} cannot be fetched: {reason}. {ANOTHER}.")


def _cause(error: BaseException) -> str:
    """What went wrong at the bottom of a chain of errors, without any address in it."""
    while True:
        inner = getattr(error, "reason", None) or next(iter(error.args), None)
        if not isinstance(inner, BaseException):
            return redacted(str(error))
        error = inner
