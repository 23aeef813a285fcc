"""A small server that speaks as much of MLflow's REST interface as a run needs, and can fail.

https://mlflow.org/docs/latest/rest-api.html
"""

import json
import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

API = "/api/2.0/mlflow/"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts/"


class Server:
    """Keeps runs in memory. `behaviour` may be changed while it runs.

    - `works`
    - `hangs`: takes requests and never answers
    - `denies`: answers 401 and repeats the request's credentials, as careless proxies do
    - after `stop`, connections are refused, until `start` takes the same port again
    """

    def __init__(self):
        self.behaviour = "works"
        self.experiments, self.runs, self.artifacts = {}, {}, {}
        self.dies_after = None
        self.requests = 0
        self._http = None
        self.port = 0
        self.start()

    def start(self):
        self._http = _HTTP(("127.0.0.1", self.port), _Handler)
        self._http.owner = self
        self.port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self):
        http, self._http = self._http, None  # two threads may call this
        if http:
            http.shutdown()
            http.server_close()

    @property
    def address(self):
        return f"http://127.0.0.1:{self.port}"

    def named(self, name):
        return [run for run in self.runs.values() if run["name"] == name]

    def answer(self, method, path, content):
        """What the interface answers; a KeyError becomes a 404."""
        if path.startswith(ARTIFACTS):
            self.artifacts[path.removeprefix(ARTIFACTS)] = content
            return {}
        call = path.removeprefix(API).replace("/", "_").replace("-", "_")
        return getattr(self, f"_{call}", self._unknown)(**content) or {}

    def _unknown(self, **content):
        raise KeyError(content)

    def _experiments_get_by_name(self, experiment_name):
        return {"experiment": self._experiment(experiment_name)}

    def _experiments_create(self, name, **_):
        self.experiments[name] = str(len(self.experiments) + 1)
        return {"experiment_id": self.experiments[name]}

    def _runs_create(self, run_name, tags, **_):
        run = {"id": f"{len(self.runs):032x}", "name": run_name, "status": "RUNNING"}
        run |= {"tags": _pairs(tags), "params": {}, "metrics": [], "inputs": []}
        self.runs[run["id"]] = run
        return {"run": self._run(run)}

    def _runs_search(self, filter, **_):  # noqa: A002  # the interface's name
        value = re.fullmatch(r"tags.cifar_run = '(.*)'", filter).group(1)
        found = [run for run in self.runs.values() if run["tags"]["cifar_run"] == value]
        return {"runs": [self._run(run) for run in found]}

    def _runs_get(self, run_id, **_):
        return {"run": self._run(self.runs[run_id])}

    def _runs_update(self, run_id, status=None, **_):
        run = self.runs[run_id]
        run["status"] = status or run["status"]
        return {"run_info": self._run(run)["info"]}

    def _runs_log_batch(self, run_id, params=(), tags=(), metrics=(), **_):
        run = self.runs[run_id]
        for key, value in _pairs(params).items():
            assert run["params"].setdefault(key, value) == value, "MLflow refuses another value"
        run["tags"] |= _pairs(tags)
        for metric in metrics:
            row = (metric["key"], int(metric.get("step", 0)), float(metric["value"]))
            if row not in run["metrics"]:
                run["metrics"].append(row)

    def _runs_log_inputs(self, run_id, datasets, **_):
        self.runs[run_id]["inputs"] += datasets

    def _experiment(self, name):
        number = self.experiments[name]
        return {"experiment_id": number, "name": name, "lifecycle_stage": "active"}

    def _run(self, run):
        info = {
            "run_id": run["id"],
            "run_uuid": run["id"],
            "experiment_id": "1",
            "run_name": run["name"],
            "status": run["status"],
            "artifact_uri": f"mlflow-artifacts:/1/{run['id']}/artifacts",
            "lifecycle_stage": "active",
        }
        tags = [{"key": key, "value": value} for key, value in run["tags"].items()]
        return {"info": info, "data": {"tags": tags}}


def _pairs(items):
    return {item["key"]: item["value"] for item in items}


class _HTTP(ThreadingHTTPServer):
    allow_reuse_address = True
    daemon_threads = True


class _Handler(BaseHTTPRequestHandler):
    def _serve(self):
        owner = self.server.owner
        owner.requests += 1
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if owner.behaviour == "hangs":
            threading.Event().wait(60)
            return
        if owner.behaviour == "denies":
            said = f"not allowed: {dict(self.headers)} at {owner.address}"
            self._send(401, {"error_code": "UNAUTHENTICATED", "message": said})
            return
        if owner.dies_after is not None:
            owner.dies_after -= 1
            if owner.dies_after < 0:
                self.connection.shutdown(socket.SHUT_RDWR)
                threading.Thread(target=owner.stop).start()
                return
        parts = urlsplit(self.path)
        if parts.path.startswith(ARTIFACTS):
            content = body
        elif body:
            content = json.loads(body)
        else:
            content = {key: values[0] for key, values in parse_qs(parts.query).items()}
        try:
            self._send(200, owner.answer(self.command, parts.path, content))
        except KeyError as error:
            self._send(404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": str(error)})

    do_GET = do_POST = do_PUT = do_PATCH = _serve

    def _send(self, status, content):
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass
