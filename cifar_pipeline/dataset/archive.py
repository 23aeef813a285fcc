"""Fetching the archive: verified, resumable, and never half there.

pooch was considered: it verifies and replaces atomically, but it starts every attempt from nothing and knows no
`file://`. What remains here is the resuming; retries and back-off are urllib3's.
"""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlparse

import requests
from requests.adapters import HTTPAdapter
from tqdm import tqdm
from urllib3.util import Retry

from cifar_pipeline.artifacts import file_digest, free_bytes, replacing_file
from cifar_pipeline.dataset.generated import generate_archive
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.settings.data import Source

CHUNK = 1 << 16
ATTEMPTS = 5
REPAIR = "Set CIFAR_ARCHIVE to a mirror, a file:// address or a path, and CIFAR_ARCHIVE_SHA256 to its checksum."
GZIP_MAGIC = b"\x1f\x8b"


def obtain_archive(source: Source, target: Path, *, back_off: float = 1.0) -> bool:
    """Put the archive of `source` at `target`, unless the right one is there. True when something was written.

    Args:
        back_off: seconds before the first retry of a download; doubled for each one after.

    Raises: PipelineError when there is no network, no room, or what came is not the archive. `target` is then as it
        was before; of a broken download only `<name>.download` stays, from which the next call goes on.
    """
    if source.kind == "generated":
        # Its bytes follow from the settings, but generating them is as fast as knowing that.
        generate_archive(
            target,
            train_per_class=source.train_per_class,
            test_per_class=source.test_per_class,
            seed=source.seed,
        )
        return True
    if target.is_file() and file_digest(target, "sha256") == source.sha256:
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        if urlparse(source.url).scheme in ("http", "https"):
            partial = target.with_name(f"{target.name}.download")
            _download(source.url, partial, back_off)
            _accept(partial, source, delete=True)
            partial.replace(target)
        else:
            _copy(source, target)
    except OSError as error:
        raise PipelineError(
            f"writing {target} failed: {error.strerror or error}. Free some space there and run again."
        ) from None
    return True


def source_reachable(source: Source, target: Path, timeout: float = 5.0) -> bool:
    """Whether `obtain_archive` has a chance: the archive is there, its path exists, or its server answers."""
    if source.kind == "generated" or (
        target.is_file() and file_digest(target, "sha256") == source.sha256
    ):
        return True
    if urlparse(source.url).scheme not in ("http", "https"):
        return _local_path(source.url).is_file()
    try:
        return requests.head(source.url, timeout=timeout, allow_redirects=True).ok
    except requests.RequestException:
        return False


def _local_path(url: str) -> Path:
    address = urlparse(url)
    return Path(unquote(address.path) if address.scheme == "file" else url).expanduser()


def _copy(source: Source, target: Path) -> None:
    path = _local_path(source.url)
    if not path.is_file():
        raise PipelineError(f"there is no archive at {path}. {REPAIR}")
    with replacing_file(target) as temporary:
        shutil.copyfile(path, temporary)
        _accept(temporary, source, delete=False)


def _accept(path: Path, source: Source, *, delete: bool) -> None:
    found = file_digest(path, "sha256")
    if found == source.sha256:
        return
    size = path.stat().st_size
    with path.open("rb") as file:
        zipped = file.read(2) == GZIP_MAGIC
    if delete:  # going on from wrong bytes can only give wrong bytes
        path.unlink()
    kind = (
        "another archive than expected, or a damaged one"
        if zipped
        else "no gzip archive (an error page, perhaps)"
    )
    raise PipelineError(
        f"{source.url} gave {kind}: {size:,} bytes with sha256 {found}, expected {source.sha256 or 'one to be set'}. {REPAIR}"
    )


def _download(url: str, partial: Path, back_off: float) -> None:
    """Fetch `url` into `partial`, going on where an earlier attempt, of this call or another, broke off."""
    session = requests.Session()
    retry = Retry(
        total=ATTEMPTS, backoff_factor=back_off, status_forcelist=(429, 500, 502, 503, 504)
    )
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    for attempt in range(ATTEMPTS):
        try:
            if _continue(session, url, partial):
                return
        except (
            requests.ConnectionError,
            requests.Timeout,
            requests.exceptions.ChunkedEncodingError,
        ) as error:
            reason = str(error)
        except requests.RequestException as error:
            raise PipelineError(f"{url} cannot be fetched: {error}. {REPAIR}") from None
        else:
            reason = "the connection closed before the end"
        time.sleep(back_off * 2**attempt)
    raise PipelineError(
        f"{url} cannot be fetched, after {ATTEMPTS} attempts: {reason:.200}. Check the network. {REPAIR}"
    )


def _continue(session: requests.Session, url: str, partial: Path) -> bool:
    """One attempt; True when the file is whole as far as the server says."""
    have = partial.stat().st_size if partial.exists() else 0
    headers = (
        {"Range": f"bytes={have}-", "Accept-Encoding": "identity"}
        if have
        else {"Accept-Encoding": "identity"}
    )
    with session.get(url, headers=headers, stream=True, timeout=30) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            return (
                True  # nothing lies behind what is here; the checksum decides whether it is right
            )
        response.raise_for_status()
        if response.status_code != requests.codes.partial_content:
            have = 0  # the server sends it from the start
        remaining = int(response.headers.get("Content-Length", 0))
        if remaining > (free := free_bytes(partial.parent)):
            raise PipelineError(
                f"{url} needs {remaining:,} bytes, {partial.parent} has {free:,}. Free some space and run again."
            )
        bar = tqdm(
            total=have + remaining,
            initial=have,
            unit="B",
            unit_scale=True,
            desc="archive",
            mininterval=1,
        )
        with partial.open("ab" if have else "wb") as file, bar:
            written = _pump(response, file.write, bar)
    return not remaining or written == remaining


def _pump(response: requests.Response, write: Callable[[bytes], int], bar: tqdm) -> int:
    written = 0
    for chunk in response.iter_content(CHUNK):
        written += write(chunk)
        bar.update(len(chunk))
    return written
