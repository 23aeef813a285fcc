"""The endpoint as its users have it: a server of its own, asked over HTTP."""

import io
import json
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import requests
from PIL import Image

from cifar_pipeline.serving.exported import ExportedModel
from tests.serving.hostile import READABLE, REFUSED
from tests.serving.servers import running
from tests.workspaces import CHECKOUT


@pytest.fixture(scope="module")
def server(exported):
    with running(exported, images=3, request_bytes=4_000_000) as address:
        yield address


@pytest.fixture(scope="module")
def strict(exported):
    """One request at a time, each within half a second."""
    with running(exported, at_once=1, upload_s=0.5) as address:
        yield address


def pixels(seed=0, shape=(32, 32, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def png(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "png")
    return file.getvalue()


def test_an_image_sent_as_it_is_gets_the_model_s_answer(server, exported):
    image = pixels()
    reply = requests.post(f"{server}/predict?top=3", png(image), timeout=10)
    assert reply.status_code == 200
    (answer,) = reply.json()
    model = ExportedModel(exported)
    expected = model.answer(image[None]).probabilities[0]
    best = np.argsort(-expected)[:3]
    assert [p["class"] for p in answer["top"]] == [model.labels.classes[i] for i in best]
    assert [p["rank"] for p in answer["top"]] == [1, 2, 3]
    assert [p["probability"] for p in answer["top"]] == pytest.approx(expected[best])
    superclasses = [model.labels.superclasses[model.labels.superclass_of[i]] for i in best]
    assert [p["superclass"] for p in answer["top"]] == superclasses
    assert answer["none_of_these"] in (True, False)
    assert (answer["model"], answer["model_sha256"]) == ("cnn9", model.sha256)


def test_of_several_images_a_broken_one_costs_only_its_own_answer(server):
    files = [
        ("files", ("a.png", png(pixels(1)))),
        ("files", ("b.png", png(pixels(2))[:200])),
        ("files", ("c.png", png(pixels(3, (700, 900, 3))))),  # too large for Starlette's memory
    ]
    reply = requests.post(f"{server}/predict", files=files, timeout=10)
    assert reply.status_code == 200
    answers = reply.json()
    assert [answer["file"] for answer in answers] == ["a.png", "b.png", "c.png"]
    assert [bool(answer["error"]) for answer in answers] == [False, True, False]
    assert [len(answer["top"]) for answer in answers] == [5, 0, 5]


@pytest.mark.parametrize(
    ("request_of", "status", "words"),
    [
        ({"data": b""}, 422, "the file is empty"),
        ({"data": b"GIF89a and no more"}, 422, "no image"),
        ({"data": b"x" * 4_000_001}, 413, "more than 4,000,000 bytes"),
        ({"files": [("files", (str(i), b"x")) for i in range(4)]}, 413, "Too many files"),
        ({"files": {"files": ("a.txt", b"text")}}, 422, "a.txt: this is no image"),
        ({"data": png(pixels()), "params": {"top": 101}}, 422, "less than or equal to 100"),
        ({"data": png(pixels()), "params": {"top": 0}}, 422, "greater than or equal to 1"),
        (
            {"data": b"no form", "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
            *(400, "form cannot be read"),
        ),
        ({"data": "x", "headers": {"Content-Type": "multipart/form-data"}}, 400, "boundary"),
    ],
)
def test_what_is_refused_gets_a_sentence(server, request_of, status, words):
    reply = requests.post(f"{server}/predict", timeout=10, **request_of)
    assert reply.status_code == status
    assert words in json.dumps(reply.json()["detail"])


def test_hostile_files_get_an_answer_and_cost_little(exported):
    with running(exported) as address:
        requests.post(f"{address}/predict", png(pixels()), timeout=10)
        before = peak_megabytes(address)
        for name, make in (READABLE | REFUSED).items():
            content = make()
            start = time.monotonic()
            reply = requests.post(f"{address}/predict", content, timeout=30)
            assert time.monotonic() - start < 5, name  # two seconds of a quiet machine
            refused = 413 if len(content) > 50_000_000 else 422
            assert reply.status_code == (200 if name in READABLE else refused), (name, reply.text)
            assert name in READABLE or len(reply.json()["detail"]) > 20
        assert peak_megabytes(address) - before < 300


def peak_megabytes(address):
    """The most memory that the server at an address has had."""
    (listening,) = (
        connection
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
        and connection.laddr.port == int(address.rpartition(":")[2])
    )
    status = Path(f"/proc/{listening.pid}/status").read_text(encoding="utf-8")
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1000


def test_a_request_that_does_not_arrive_is_ended(strict):
    def slow():
        for _ in range(5):
            yield b"x"
            time.sleep(0.3)

    reply = requests.post(f"{strict}/predict", slow(), timeout=10)
    assert (reply.status_code, reply.json()["detail"]) == (
        408,
        "the request did not arrive within 0.5 s",
    )


def test_more_requests_than_there_is_room_for_are_told_to_come_back(strict):
    host, port = strict.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as first:
        first.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nx")
        time.sleep(0.1)
        reply = requests.post(f"{strict}/predict", png(pixels()), timeout=10)
        assert reply.status_code == 503
        assert reply.headers["Retry-After"] == "1"
        assert requests.get(f"{strict}/healthz", timeout=10).json() == {"status": "ok"}
        first.recv(1000)  # its time is over
    assert requests.post(f"{strict}/predict", png(pixels()), timeout=10).status_code == 200


def test_the_model_and_the_interface_describe_themselves(server, exported):
    metadata = requests.get(f"{server}/metadata", timeout=10).json()
    model = ExportedModel(exported)
    assert metadata["sha256"] == model.sha256
    assert metadata["classes"] == model.labels.classes
    assert metadata["threshold"] == model.threshold
    interface = requests.get(f"{server}/openapi.json", timeout=10).json()
    operation = interface["paths"]["/predict"]["post"]
    assert {"multipart/form-data", "image/jpeg"} <= set(operation["requestBody"]["content"])
    assert {"200", "400", "408", "413", "422", "503"} <= set(operation["responses"])
    assert interface["components"]["schemas"]["Guess"]["properties"]["class"]["examples"]


def test_the_command_serves_this_machine_alone(exported, tmp_path):
    """Its own address, and what it says of where it is."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "cifar_pipeline", "serve", "--file", exported]
    with subprocess.Popen(
        [*command, "--port", str(port)], cwd=CHECKOUT, stderr=subprocess.PIPE, text=True
    ) as process:
        said = ""
        while "Uvicorn running" not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
        assert f"http://127.0.0.1:{port}" in said
        reply = requests.post(f"http://127.0.0.1:{port}/predict", png(pixels()), timeout=10)
        assert reply.status_code == 200
        assert "server" not in reply.headers
        process.terminate()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--file", "missing.onnx"], "there is no exported model at missing.onnx"),
        (["--file", "pyproject.toml"], "damaged or no ONNX file"),
        (["--file", "x.onnx", "--model", "cnn9"], "name one"),
        (["--port", "70000"], "70000 is not in the range"),
        (["--host", "203.0.113.1"], "or another address with --host"),
    ],
)
def test_what_cannot_be_served_is_named(arguments, words):
    done = subprocess.run(
        [sys.executable, "-m", "cifar_pipeline", "serve", *arguments],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode
    assert words in done.stderr
    assert "Traceback" not in done.stderr
