"""The endpoint as a server of its own."""

import json
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

from tests.workspaces import CHECKOUT

# No file larger than nothing can be written: what tries to is refused by the system.
SERVER = """
import json, resource, sys
from pathlib import Path
import uvicorn
from cifar_pipeline.serving.endpoint import RequestLimits, create_app
from cifar_pipeline.serving.exported import ExportedModel
path, port, limits = sys.argv[1:]
app = create_app(ExportedModel(Path(path)), RequestLimits(**json.loads(limits)))
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
assert not {"tensorflow", "keras", "dagster"} & set(sys.modules)
uvicorn.run(app, port=int(port), log_level="error")
"""


@contextmanager
def running(exported, **limits):
    """A server with these limits; yields its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", SERVER, str(exported), str(port), json.dumps(limits)]
    with subprocess.Popen(command, cwd=CHECKOUT) as process:
        try:
            for _ in range(200):
                with socket.socket() as asking:
                    if asking.connect_ex(("127.0.0.1", port)) == 0:
                        break
                assert process.poll() is None
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
