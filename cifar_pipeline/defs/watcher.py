"""A process beside each run, which outlives it: `python -m cifar_pipeline.defs.watcher PROCESS`.

When the run's process has died, whatever killed it, this one marks the run as failed and frees what
it held in the pool, so that no other run waits for it and nobody has to look. It is in a session of
its own, because what kills a run often kills its whole group.
"""

import atexit
import os
import subprocess
import sys
import time
from pathlib import Path

from cifar_pipeline.defs.processes import EVERY_S, is_alive, this_process


def watch_this_process() -> None:
    """Start the process that watches this one. It ends when this one ends as it should."""
    command = (sys.executable, "-m", "cifar_pipeline.defs.watcher", this_process())
    watcher = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    atexit.register(watcher.kill)  # SIGTERM may be ignored, and it holds nothing


def main() -> None:
    (process,) = sys.argv[1:]
    while is_alive(process):
        time.sleep(EVERY_S)
    if not Path(os.environ["DAGSTER_HOME"]).is_dir():
        return
    import dagster as dg  # a second, and tens of megabytes as long as the run lives

    from cifar_pipeline.defs.runs import release_dead_runs

    with dg.DagsterInstance.get() as instance:
        release_dead_runs(instance)


if __name__ == "__main__":
    main()
