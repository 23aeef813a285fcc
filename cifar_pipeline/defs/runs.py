"""Runs that died: a killed run must not keep the pool slot that every later training waits for.

Dagster frees the slots of runs that fail or are terminated; one whose process was killed stays
STARTED for ever, its slot taken (seen with dagster 1.13.27). Runs started by `dagster job execute`
have no launcher that could be asked, so each run carries the process it lives in as a tag, and the
executor of the next run looks.
"""

import os
import socket

import dagster as dg
import psutil

WORKER_TAG = ".dagster/cifar_pipeline_worker"
"""The UI does not show tags that begin so."""


def this_process() -> str:
    """`host:pid:start` of this process."""
    process = psutil.Process(os.getpid())
    return f"{socket.gethostname()}:{process.pid}:{process.create_time():.2f}"


def release_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Fail the runs of this host whose process is gone, and free their pool slots.

    Returns: their ids.
    """
    dead = []
    unfinished = [
        dg.DagsterRunStatus.STARTING,
        dg.DagsterRunStatus.STARTED,
        dg.DagsterRunStatus.CANCELING,
    ]
    for run in instance.get_runs(dg.RunsFilter(statuses=unfinished)):
        host, _, process = run.tags.get(WORKER_TAG, "").partition(":")
        if host == socket.gethostname() and not _alive(process):
            pid = process.partition(":")[0]
            instance.report_run_failed(
                run, f"Its process ({pid}) is gone: it was killed, or the machine went down."
            )
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
            dead.append(run.run_id)
    _free_slots_of_ended_runs(instance)
    return dead


def _free_slots_of_ended_runs(instance: dg.DagsterInstance) -> None:
    """A run whose executor raised, as when nobody reads its output any more, ends with its slot."""
    storage = instance.event_log_storage
    for pool in storage.get_concurrency_keys():
        for run_id in {slot.run_id for slot in storage.get_concurrency_info(pool).claimed_slots}:
            run = instance.get_run_by_id(run_id)
            if run is None or run.is_finished:
                storage.free_concurrency_slots_for_run(run_id)


def _alive(process: str) -> bool:
    pid, _, started = process.partition(":")
    try:
        return abs(psutil.Process(int(pid)).create_time() - float(started)) < 1
    except psutil.NoSuchProcess:
        return False
