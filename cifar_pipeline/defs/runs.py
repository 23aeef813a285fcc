"""Runs that died: a killed run must not keep the pool slot that every later training waits for.

Dagster frees the slots of runs that fail or are terminated. One whose process was killed stays
STARTED for ever and keeps its slot, or its place in the queue, which is handed the slot later
(seen with dagster 1.13.27). Runs started by `dagster job execute` have no launcher that could be
asked, so each run carries the process it lives in as a tag. Three look whether it is alive: the
watcher of the run itself (`watcher.py`), a run that begins, and one that waits.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
from dagster._core.execution.plan.resume_retry import ReexecutionStrategy
from dagster._core.storage.tags import (
    MAX_RETRIES_TAG,
    RETRY_NUMBER_TAG,
    RETRY_STRATEGY_TAG,
)

from cifar_pipeline.defs.processes import is_alive, is_here

_WORKER_TAG = ".dagster/cifar_pipeline_worker"
"""The UI does not show tags that begin so."""
_OF = " of run "
GO_ON_BY_ITSELF = {RETRY_STRATEGY_TAG: ReexecutionStrategy.FROM_ASSET_FAILURE.name}
"""Tags of a run that the daemon takes up when it was killed (`run_retries` in dagster.yaml)."""
LEAVE_TO_ITS_USER = {MAX_RETRIES_TAG: "0"}
"""Tags of a run whose command a person or DVC waits for, and types again."""
FIRST_WAIT_S = 5
"""Before the first retry; twice as long before each further one."""
UNTAGGED_S = 300
"""A run is tagged as it begins. One that left the queue so long ago without a tag has died."""
LOOK_EVERY_S = 5.0
UNFINISHED = (
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)


def worker_tag(run_id: str, process: str) -> dict[str, str]:
    """The tag of a run that lives in a process.

    Args:
        process: as `processes.name_of` names it.
    """
    return {_WORKER_TAG: f"{process}{_OF}{run_id}"}


def worker_of(run: dg.DagsterRun) -> str | None:
    """The process that a run lives in, or None before it has begun.

    A run that repeats another one, by a retry or by hand, begins with the tags of that one, whose
    process is dead.
    """
    process, _, run_id = run.tags.get(_WORKER_TAG, "").partition(_OF)
    return process if run_id == run.run_id else None


def release_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Fail the runs of this machine whose process is gone, and free what they held in pools.

    Returns: their ids.
    """
    dead = []
    for record in instance.get_run_records(dg.RunsFilter(statuses=list(UNFINISHED))):
        run = record.dagster_run
        process = worker_of(run)
        if process is None:
            # Not since it was created: it may have been in the queue for hours.
            gone = time.time() - record.update_timestamp.timestamp() > UNTAGGED_S
            why = "Its process was killed before it had begun."
            if gone and not run.remote_job_origin:
                instance.add_run_tags(run.run_id, LEAVE_TO_ITS_USER)
        else:
            gone = is_here(process) and not is_alive(process)
            why = (
                f"Its process ({process.split(':')[1]}) is gone: it was killed, or the machine "
                "went down."
            )
        if gone:
            instance.report_run_failed(run, why)
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
            dead.append(run.run_id)
    _free_what_ended_runs_hold(instance)
    return dead


def wait_before_retrying(run: dg.DagsterRun) -> None:
    """Give what killed the run before time to pass, such as another program's use of memory."""
    if number := int(run.tags.get(RETRY_NUMBER_TAG, 0)):
        seconds = FIRST_WAIT_S * 2 ** (number - 1)
        print(f"retry {number} of a run that was killed begins in {seconds} s", flush=True)
        time.sleep(seconds)


@contextmanager
def telling_what_it_waits_for(
    instance: dg.DagsterInstance, run_id: str, pool: str
) -> Iterator[None]:
    """Say which run has the slot of `pool` as long as the run `run_id` waits for it, and look
    whether that one is alive."""
    ended = threading.Event()

    def look() -> None:
        told: set[str] = set()
        while not ended.wait(LOOK_EVERY_S):
            holders = _waited_for(instance, run_id, pool)
            if holders:
                for dead in release_dead_runs(instance):
                    print(f"run {dead} had died; what it held is free again", flush=True)
            for holder in holders - told:
                print(f"waiting for the pool `{pool}`: {_described(instance, holder)}", flush=True)
            told |= holders

    thread = threading.Thread(target=look, name=f"waits for {pool}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _waited_for(instance: dg.DagsterInstance, run_id: str, pool: str) -> set[str]:
    """The other runs that hold slots of `pool`, or are about to, while a step of this one waits."""
    found = instance.event_log_storage.get_concurrency_info(pool)
    own = {slot.step_key for slot in found.claimed_slots if slot.run_id == run_id}
    if not any(
        step.run_id == run_id and step.step_key not in own and step.assigned_timestamp is None
        for step in found.pending_steps
    ):
        return set()
    holders = {slot.run_id for slot in found.claimed_slots}
    holders |= {step.run_id for step in found.pending_steps if step.assigned_timestamp}
    return holders - {run_id}


def _described(instance: dg.DagsterInstance, run_id: str) -> str:
    run = instance.get_run_by_id(run_id)
    if run is None:
        return f"run {run_id[:8]} has it"
    assets = ["/".join(key.path) for key in run.asset_selection or ()]
    what = assets[0] if len(assets) == 1 else run.job_name
    since = time.strftime("%H:%M", time.localtime(instance.get_run_stats(run_id).start_time))
    return f"run {run_id[:8]} ({what}, since {since}) has it"


def _free_what_ended_runs_hold(instance: dg.DagsterInstance) -> None:
    """A run whose executor raised, as when nobody reads its output any more, ends with its slot."""
    storage = instance.event_log_storage
    for pool in storage.get_pool_limits():
        found = storage.get_concurrency_info(pool.name)
        holders = {slot.run_id for slot in found.claimed_slots}
        for run_id in holders | {step.run_id for step in found.pending_steps}:
            run = instance.get_run_by_id(run_id)
            if run is None or run.is_finished:
                storage.free_concurrency_slots_for_run(run_id)
