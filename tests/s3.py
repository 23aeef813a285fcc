"""An S3 server of the tests' own, on a free port of localhost: rclone's, over a folder."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

from cifar_pipeline.artifacts import file_digest
from tests.workspaces import Copy, free_port

KEYS = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "only-tests"}
BUCKET = "store"


@dataclass(frozen=True)
class Server:
    """A running server."""

    address: str
    folder: Path
    """what it keeps, a folder for each bucket"""

    def become_remote_of(self, copy: Copy) -> None:
        """Let DVC in `copy` push to this server unless it is told otherwise."""
        copy.dvc("remote", "add", "--default", "--force", BUCKET, f"s3://{BUCKET}/dvc")
        copy.dvc("remote", "modify", BUCKET, "endpointurl", self.address)

    def objects(self) -> set[str]:
        """The md5s of what it keeps whole; a file grows in place as it arrives."""
        found = (self.folder / BUCKET / "dvc" / "files" / "md5").glob("*/*")
        return {path.parent.name + path.name for path in found if _is_whole(path)}


def _is_whole(path: Path) -> bool:
    try:
        return file_digest(path, "md5") == path.parent.name + path.stem
    except FileNotFoundError:  # the server has removed what was cut short
        return False


@contextmanager
def s3(folder: Path, *options: str) -> Iterator[Server]:
    """A server that keeps its buckets in `folder`, ended afterwards.

    Args:
        options: of rclone, such as `--bwlimit=2M`.
    """
    (folder / BUCKET).mkdir(parents=True)
    beside = Path(sys.executable).parent / "rclone"
    program = str(beside) if beside.exists() else shutil.which("rclone")
    assert program, "rclone is not installed; run `make setup`"
    address = f"127.0.0.1:{free_port()}"
    keys = f"--auth-key={','.join(KEYS.values())}"
    command = (program, "serve", "s3", f"--addr={address}", keys, *options)
    empty = {**os.environ, "RCLONE_CONFIG": os.devnull}
    with subprocess.Popen((*command, str(folder)), env=empty, stderr=subprocess.DEVNULL) as server:
        try:
            _wait_for(f"http://{address}")
            yield Server(f"http://{address}", folder)
        finally:
            server.terminate()


def _wait_for(address: str) -> None:
    for _ in range(100):
        try:
            requests.get(address, timeout=1)
        except requests.ConnectionError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError(f"no S3 server answers at {address}")
