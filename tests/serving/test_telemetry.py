import os
import subprocess
import sys

from tests.workspaces import CHECKOUT


def test_onnxruntime_tells_nobody_and_keeps_nothing(tmp_path):
    homes = dict.fromkeys(("HOME", "XDG_CACHE_HOME"), str(tmp_path))
    environment = {name: value for name, value in os.environ.items() if "TELEMETRY" not in name}
    command = [sys.executable, "-B", "-c", "import cifar_pipeline.serving.exported"]
    subprocess.run(command, cwd=CHECKOUT, env={**environment, **homes}, check=True)
    assert list(tmp_path.rglob("*")) == []
