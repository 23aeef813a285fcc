"""Runs that ended or died keep no slot of a pool."""

import dagster as dg

from cifar_pipeline.defs.processes import this_process
from cifar_pipeline.defs.runs import WORKER_TAG, release_dead_runs


@dg.op
def train() -> None:
    pass


@dg.job
def training() -> None:
    train()


def claim(instance: dg.DagsterInstance, worker: str, *, ended: bool) -> str:
    """A run that holds the slot of the pool `gpu`; returns its id."""
    run = instance.create_run_for_job(training, tags={WORKER_TAG: worker})
    instance.report_run_failed(run) if ended else instance.handle_new_event(started(run))
    status = instance.event_log_storage.claim_concurrency_slot("gpu", run.run_id, "train")
    assert status.is_claimed
    return run.run_id


def started(run: dg.DagsterRun) -> dg.EventLogEntry:
    event = dg.DagsterEvent(event_type_value="PIPELINE_START", job_name=run.job_name)
    return dg.EventLogEntry(
        error_info=None,
        level="debug",
        user_message="",
        run_id=run.run_id,
        timestamp=0.0,
        job_name=run.job_name,
        dagster_event=event,
    )


def holders(instance: dg.DagsterInstance) -> list[str]:
    claimed = instance.event_log_storage.get_concurrency_info("gpu").claimed_slots
    return [slot.run_id for slot in claimed]


def test_slots_are_freed_unless_their_run_is_alive(tmp_path):
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        instance.event_log_storage.set_concurrency_slots("gpu", 1)

        failed = claim(instance, this_process(), ended=True)
        assert holders(instance) == [failed]
        assert release_dead_runs(instance) == []
        assert holders(instance) == []

        gone = this_process().rpartition(":")[0] + ":1.00"  # another process had this number
        killed = claim(instance, gone, ended=False)
        assert release_dead_runs(instance) == [killed]
        assert holders(instance) == []

        alive = claim(instance, this_process(), ended=False)
        assert release_dead_runs(instance) == []
        assert holders(instance) == [alive]
