"""A PostgreSQL server of the tests' own, on a free port of localhost.

Debian's package, or anything else that brings `initdb` and `pg_ctl`, is enough; nothing has to run.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psycopg2

from tests.workspaces import free_port

DEBIAN = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
"""Where Debian has the programs of the server, outside the PATH."""
USER = "postgres"
"""Of the data base, and the one who runs the server for root, for whom it does not run."""


class Server:
    """A running server. Whoever has an account on this machine may log in while the tests run."""

    def __init__(self, port: int) -> None:
        self._port, self._numbers = port, count()

    def new(self) -> str:
        """The address of an empty data base, as SQLAlchemy takes it."""
        name = f"test{next(self._numbers)}"
        connection = psycopg2.connect(self._address("postgres"))
        connection.autocommit = True
        connection.cursor().execute(f"CREATE DATABASE {name}")
        connection.close()
        return self._address(name).replace("://", "+psycopg2://")

    def _address(self, name: str) -> str:
        return f"postgresql://{USER}@127.0.0.1:{self._port}/{name}"


@contextmanager
def postgres() -> Iterator[Server]:
    """A server, ended afterwards."""
    program = shutil.which("initdb") or next((path / "initdb" for path in DEBIAN[::-1]), None)
    assert program, (
        "PostgreSQL is not installed: `apt-get install postgresql`, or `-m 'not postgres'`"
    )
    programs, owner = Path(program).parent, USER if os.getuid() == 0 else None
    # Not under pytest's folder, which only its owner may enter.
    folder, port = Path(tempfile.mkdtemp(prefix="postgres-")), free_port()
    if owner:
        shutil.chown(folder, owner)

    def call(name: str, *arguments: str) -> None:
        command = [programs / name, "-D", folder / "data", *arguments]
        subprocess.run(
            command, check=True, user=owner, cwd=folder, stdout=subprocess.DEVNULL, timeout=60
        )

    options = f"-h 127.0.0.1 -p {port} -k {folder} -c fsync=off"
    try:
        call("initdb", "--auth=trust", "--no-sync", f"--username={USER}")
        call("pg_ctl", "--wait", f"--log={folder / 'log'}", f"--options={options}", "start")
        try:
            yield Server(port)
        finally:
            call("pg_ctl", "--wait", "--mode=immediate", "stop")
    finally:
        shutil.rmtree(folder)
