"""What is uploaded, and how: to a server that speaks as much of the Hub's protocol as is needed."""

import base64
import json
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml

from cifar_pipeline.artifacts import read_json, write_json
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.models.saved import load_labels
from cifar_pipeline.publishing import assemble
from tests.workspaces import CHECKOUT, copy_settings

FILES = [
    *("README.md", "calibration.json", "labels.json"),
    *("model.int8.onnx", "model.keras", "model.onnx", "provenance.json"),
]
TOKEN = "hf_secret"  # noqa: S105  # of the server below


@pytest.fixture
def home(served, tmp_path):
    """A workspace whose model `cnn9` has an export and a report."""
    copy_settings(tmp_path)
    home = type(served)(tmp_path)
    home.model("cnn9").parent.mkdir(parents=True)
    home.model("cnn9").symlink_to(served.model("cnn9"))
    shutil.copytree(served.export("cnn9"), home.export("cnn9"))
    # Of so few images it cannot be told on every processor alike whether the export keeps one.
    shutil.copy(home.export("cnn9") / "model.onnx", home.export("cnn9") / "model.int8.onnx")
    labels = load_labels(served.model("cnn9")).classes
    result = {
        "task": {"type": "image-classification"},
        "dataset": {"name": "CIFAR-100", "type": "uoft-cs/cifar100"},
        "metrics": [{"type": "accuracy", "value": 0.5}],
    }
    front = {
        "library_name": "keras",
        "id2label": {str(place): name for place, name in enumerate(labels)},
        "model-index": [{"name": "cnn9", "results": [result]}],
    }
    home.report("cnn9").mkdir(parents=True)
    text = f"---\n{yaml.safe_dump(front)}---\n\n# cnn9\n"
    (home.report("cnn9") / "README.md").write_text(text, encoding="utf-8")
    digest = read_json(home.model("cnn9") / "provenance.json")["model_sha256"]
    write_json(home.report("cnn9") / "provenance.json", {"model_sha256": digest})
    return home


def publish(home, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "cifar_pipeline", "publish", *arguments],
        cwd=CHECKOUT,
        env={"PATH": "/usr/bin:/bin", "CIFAR_ROOT": str(home.root), "HF_HUB_DISABLE_XET": "1"}
        | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_dry_run_writes_what_would_be_uploaded(home, tmp_path):
    done = publish(home, "cnn9", "--dry-run", str(tmp_path / "out"), "--licence", "apache-2.0")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == FILES
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert yaml.safe_load(card.split("---\n")[1])["license"] == "apache-2.0"
    (program,) = (part.split("```")[0] for part in card.split("```python\n")[1:])
    done = subprocess.run(
        [sys.executable, "-I", "-c", program],
        cwd=tmp_path / "out",
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split()[0] in load_labels(home.model("cnn9")).classes


class Hub(BaseHTTPRequestHandler):
    """Takes a repository and its files as the Hub does, the files within the commit."""

    def do_POST(self):
        body = self._body()
        self.server.asked[self.path] = body
        here = f"http://127.0.0.1:{self.server.server_address[1]}/me/model"
        answers = {
            "/api/validate-yaml": {},
            "/api/repos/create": {"url": here, "name": "me/model"},
            "/api/models/me/model/commit/main": {"commitUrl": f"{here}/commit/1", "commitOid": "1"},
        }
        if self.path.endswith("/preupload/main"):
            files = [file["path"] for file in json.loads(body)["files"]]
            plain = {"uploadMode": "regular", "shouldIgnore": False}
            answers[self.path] = {"files": [{"path": path, **plain} for path in files]}
        status = self.server.status
        self._answer(status, answers[self.path] if status == 200 else {"error": "no"})

    def do_GET(self):
        self._answer(404, {})

    def _body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers["Content-Length"]))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _answer(self, status, content):
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.asked, server.status = {}, 200
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def address(hub):
    return f"http://127.0.0.1:{hub.server_address[1]}"


def test_a_model_is_uploaded_whole_and_in_private(home, hub):
    done = publish(home, "cnn9", "me/model", HF_ENDPOINT=address(hub), HF_TOKEN=TOKEN)
    assert done.returncode == 0, done.stderr
    assert f"uploaded: {address(hub)}/me/model/commit/1" in done.stdout
    assert json.loads(hub.asked["/api/repos/create"])["visibility"] == "private"
    lines = map(json.loads, hub.asked["/api/models/me/model/commit/main"].splitlines())
    sent = {line["value"]["path"]: line["value"] for line in lines if line["key"] == "file"}
    assert sorted(sent) == FILES
    onnx = base64.b64decode(sent["model.onnx"]["content"])
    assert onnx == (home.export("cnn9") / "model.onnx").read_bytes()
    assert TOKEN not in done.stdout + done.stderr


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_says_how_to_log_in(home, hub, status):
    hub.status = status
    done = publish(home, "cnn9", "me/model", HF_ENDPOINT=address(hub), HF_TOKEN=TOKEN)
    assert done.returncode == 1
    assert "hf auth login" in done.stderr
    assert "Traceback" not in done.stderr
    assert TOKEN not in done.stdout + done.stderr


def test_without_a_network_nothing_but_a_sentence(home):
    done = publish(home, "cnn9", "me/model", HF_ENDPOINT="http://127.0.0.1:9", HF_TOKEN=TOKEN)
    assert done.returncode == 1
    assert "cannot be brought to Hugging Face" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("cnn9",), "name the repository"),
        (("cnn9", "no owner"), "expected OWNER/NAME"),
        (("cnn10", "me/model"), "cnn10"),
        (("efficientnet_b0", "me/model"), "is missing; materialize its asset first"),
    ],
)
def test_what_cannot_be_published_is_named(home, arguments, words):
    done = publish(home, *arguments)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_parts_of_different_trainings_are_not_put_together(home, tmp_path):
    write_json(home.report("cnn9") / "provenance.json", {"model_sha256": "another"})
    with pytest.raises(PipelineError, match="the report of cnn9 is of another training"):
        assemble("cnn9", home, tmp_path / "out", None)
    assert not (tmp_path / "out").exists()


def test_a_folder_with_other_things_is_left_alone(home, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(PipelineError, match="holds something else"):
        assemble("cnn9", home, tmp_path / "out", None)
    assert (tmp_path / "out" / "thesis.txt").read_text() == "mine"
