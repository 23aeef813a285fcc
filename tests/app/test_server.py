"""The server: what it is reached by, what it refuses, and that it writes nothing."""

import asyncio
import os
import subprocess
import sys

import pytest
import requests

from benchmarks.app import UPLOADER
from benchmarks.visitor import Visitor
from cifar_pipeline.app.server import EVERY_ADDRESS
from tests.app.conftest import write_board
from tests.app.running import served
from tests.workspaces import CHECKOUT

IMPORTED = """
import sys
from cifar_pipeline.app import leaderboard, photographs, test_split
heavy = {"tensorflow", "keras", "torch", "dagster", "albumentations", "matplotlib"}
print(sorted(heavy & set(sys.modules)))
"""
WITHOUT_STREAMLIT = """
import sys
sys.modules["streamlit"] = None
from cifar_pipeline.cli import main
main(["app"])
"""


def python(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_page_needs_nothing_that_trains_or_draws():
    assert python(IMPORTED).stdout == "[]\n"


def test_without_streamlit_the_command_says_how_to_install_it():
    done = python(WITHOUT_STREAMLIT)
    assert done.returncode == 1
    assert "pip install 'cifar-pipeline[app]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_a_sentence(tmp_path):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = python(
            "from cifar_pipeline.cli import main; import sys; main(sys.argv[1:])",
            *("app", "--host", "127.0.0.1", "--port", port),
        )
    assert done.returncode == 1
    assert f"127.0.0.1:{port} (Address already in use); choose another port" in done.stderr
    assert "Traceback" not in done.stderr


def test_visitors_from_other_machines_are_let_in_when_the_host_is_every_address(home, tmp_path):
    """127.0.0.2 stands for another address of this machine."""
    with served(home.root, tmp_path, host=EVERY_ADDRESS[0]) as (address, process):
        found = asyncio.run(first_view(address.replace("127.0.0.1", "127.0.0.2")))
        process.terminate()
        said = process.communicate()[1].decode()
    assert UPLOADER in found.widgets, said
    assert "external IP" not in said  # nobody was asked for it


async def first_view(address):
    async with Visitor(address) as visitor:
        return await visitor.go()


def test_reports_are_served_and_nothing_else(home, tmp_path):
    write_board(home)
    (home.report("first") / "index.html").write_text("<h1>A report</h1>")
    folder = tmp_path / "server"
    folder.mkdir()
    with served(home.root, folder) as (address, _):
        assert (
            "<h1>A report</h1>" in requests.get(f"{address}/pages/reports/first/", timeout=60).text
        )
        for path in (
            "/pages/reports/../table/cifar100.parquet",
            "/pages/reports/..%2ftable%2fcifar100.parquet",
            "/pages/reports/%2e%2e/exports/first/model.onnx",
            "/pages/leaderboard//etc/passwd",
        ):
            session = requests.Session()
            request = requests.Request("GET", address).prepare()
            request.url = f"{address}{path}"  # as it stands
            answer = session.send(request)
            assert answer.status_code in (400, 403, 404), path
        stranger = {"Origin": "http://elsewhere.example"}
        answer = requests.put(f"{address}/_stcore/upload_file/a/b", headers=stranger, timeout=60)
        assert answer.status_code == 403
    assert list(folder.rglob("*")) == []


@pytest.mark.parametrize("option", [["--port", "no"], ["--host"]])
def test_options_that_make_no_sense_are_refused(option):
    done = python(
        "from cifar_pipeline.cli import main; import sys; main(sys.argv[1:])", "app", *option
    )
    assert done.returncode == 2
