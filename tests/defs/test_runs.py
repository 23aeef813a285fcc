"""Runs that ended or died keep no slot of a pool, and no place in its queue, whether Dagster keeps
them in SQLite or in PostgreSQL."""

import os
import signal
import subprocess
import sys
import time

import dagster as dg
import psutil
import pytest
import yaml

from cifar_pipeline.defs import runs
from cifar_pipeline.defs.processes import is_alive, name_of, this_process
from cifar_pipeline.defs.runs import (
    release_dead_runs,
    telling_what_it_waits_for,
    wait_before_retrying,
    worker_of,
    worker_tag,
)
from tests.postgres import postgres


@pytest.fixture(scope="module")
def server():
    with postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def dagster_home(request, tmp_path):
    """A folder with the storage of an instance, or with its address."""
    if request.param == "postgres":
        url = request.getfixturevalue("server").new()
        storage = {"storage": {"postgres": {"postgres_url": url}}}
        (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(storage), encoding="utf-8")
    return tmp_path


@pytest.fixture
def instance(dagster_home):
    with dg.DagsterInstance.from_config(str(dagster_home)) as instance:
        yield instance


@dg.op
def train() -> None:
    pass


@dg.job
def training() -> None:
    train()


def create_run(instance: dg.DagsterInstance, worker: str) -> dg.DagsterRun:
    run = instance.create_run_for_job(training)
    instance.add_run_tags(run.run_id, worker_tag(run.run_id, worker))
    return instance.get_run_by_id(run.run_id)


def claim(instance: dg.DagsterInstance, worker: str, *, ended: bool) -> str:
    """A run that holds the slot of the pool `gpu`; returns its id."""
    run = create_run(instance, worker)
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
        timestamp=time.time(),
        job_name=run.job_name,
        dagster_event=event,
    )


def holders(instance: dg.DagsterInstance) -> list[str]:
    claimed = instance.event_log_storage.get_concurrency_info("gpu").claimed_slots
    return [slot.run_id for slot in claimed]


def test_slots_are_freed_unless_their_run_is_alive(instance):
    instance.event_log_storage.set_concurrency_slots("gpu", 1)

    failed = claim(instance, this_process(), ended=True)
    assert holders(instance) == [failed]
    assert release_dead_runs(instance) == []
    assert holders(instance) == []

    gone = GONE
    killed = claim(instance, gone, ended=False)
    assert release_dead_runs(instance) == [killed]
    assert holders(instance) == []

    alive = claim(instance, this_process(), ended=False)
    assert release_dead_runs(instance) == []
    assert holders(instance) == [alive]


GONE = this_process().rpartition(":")[0] + ":1.00"
"""Another process had this number."""


def wait_in_queue(instance: dg.DagsterInstance, worker: str) -> str:
    """A started run that waits for the pool `gpu`; returns its id."""
    run = create_run(instance, worker)
    instance.handle_new_event(started(run))
    claim = instance.event_log_storage.claim_concurrency_slot("gpu", run.run_id, "train")
    assert not claim.is_claimed
    return run.run_id


def test_a_dead_run_keeps_no_place_in_the_queue(instance):
    storage = instance.event_log_storage
    storage.set_concurrency_slots("gpu", 1)
    alive = claim(instance, this_process(), ended=False)
    dead = wait_in_queue(instance, GONE)
    after = wait_in_queue(instance, this_process())
    assert release_dead_runs(instance) == [dead]
    assert {step.run_id for step in storage.get_concurrency_info("gpu").pending_steps} == {
        alive,
        after,
    }
    storage.free_concurrency_slots_for_run(alive)
    assert storage.claim_concurrency_slot("gpu", after, "train").is_claimed


def test_a_run_that_died_before_it_was_tagged_is_known_by_its_age(instance, monkeypatch):
    instance.event_log_storage.set_concurrency_slots("gpu", 1)
    untagged = instance.create_run_for_job(training)
    instance.handle_new_event(started(untagged))
    assert instance.get_run_by_id(untagged.run_id).status is dg.DagsterRunStatus.STARTED
    assert release_dead_runs(instance) == []
    monkeypatch.setattr(runs, "UNTAGGED_S", -1)
    assert release_dead_runs(instance) == [untagged.run_id]
    tags = instance.get_run_by_id(untagged.run_id).tags
    assert tags["dagster/max_retries"] == "0"


def test_a_run_that_repeats_a_killed_one_is_not_taken_for_it(instance):
    """Dagster gives it that one's tags, and its own process comes seconds later."""
    killed = create_run(instance, GONE)
    assert worker_of(killed) == GONE
    retry = instance.create_run_for_job(training, tags=killed.tags)
    for run in (killed, retry):
        instance.handle_new_event(started(run))
    assert release_dead_runs(instance) == [killed.run_id]
    assert worker_of(retry) is None


def test_time_in_the_queue_does_not_count_as_time_without_a_tag(instance, monkeypatch):
    monkeypatch.setattr(runs, "UNTAGGED_S", 2)
    run = instance.create_run_for_job(training)
    time.sleep(2.1)
    instance.handle_new_event(started(run))
    assert release_dead_runs(instance) == []


def test_a_run_that_waits_says_for_what_and_looks_whether_it_is_alive(
    instance, capsys, monkeypatch
):
    monkeypatch.setattr(runs, "LOOK_EVERY_S", 0.05)
    storage = instance.event_log_storage
    storage.set_concurrency_slots("gpu", 1)
    holder = claim(instance, this_process(), ended=False)
    waiting = wait_in_queue(instance, this_process())
    said = ""
    with telling_what_it_waits_for(instance, waiting, "gpu"):
        while "waiting" not in said:
            time.sleep(0.05)
            said += capsys.readouterr().out
        assert f"waiting for the pool `gpu`: run {holder[:8]} (training, since" in said
        instance.add_run_tags(holder, worker_tag(holder, GONE))
        while "had died" not in said:
            time.sleep(0.05)
            said += capsys.readouterr().out
    assert said.count("waiting") == 1
    assert instance.get_run_by_id(holder).is_finished
    assert storage.claim_concurrency_slot("gpu", waiting, "train").is_claimed


def test_what_its_parent_has_not_reaped_is_dead():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    name = name_of(psutil.Process(process.pid))
    assert is_alive(name)
    process.kill()
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert not is_alive(name)
    process.wait()
    assert not is_alive(name)


def test_a_process_ends_with_another_even_if_it_is_deaf():
    """To SIGTERM first, and by itself when it does not hear it."""
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    code = (
        "import signal, sys, time; from cifar_pipeline.defs import processes; "
        "processes.GRACE_S = processes.EVERY_S = 0.1; "
        "signal.signal(signal.SIGTERM, signal.SIG_IGN if sys.argv[2] == 'deaf' else "
        "signal.SIG_DFL); processes.end_with(sys.argv[1], 'the other'); "
        "print('ready', flush=True); time.sleep(60)"
    )
    name = name_of(psutil.Process(other.pid))
    followers = {
        kind: subprocess.Popen(
            [sys.executable, "-c", code, name, kind], stdout=subprocess.PIPE, text=True
        )
        for kind in ("hearing", "deaf")
    }
    assert {follower.stdout.readline() for follower in followers.values()} == {"ready\n"}
    other.kill()
    other.wait()
    said = {kind: follower.communicate(timeout=30)[0] for kind, follower in followers.items()}
    assert set(said.values()) == {"the other is gone, so this process ends too\n"}
    assert followers["hearing"].returncode == -signal.SIGTERM
    assert followers["deaf"].returncode == 1


def test_a_watcher_frees_what_a_killed_process_held_and_goes_with_one_that_ends(dagster_home):
    """Even if it was started by what ignores SIGTERM, which it inherits."""
    code = (
        "import signal, sys, dagster as dg; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "from cifar_pipeline.defs.watcher import watch_this_process; "
        "from cifar_pipeline.defs.processes import this_process; "
        "from tests.defs.test_runs import create_run, started; "
        "instance = dg.DagsterInstance.get(); "
        "run = create_run(instance, this_process()); "
        "instance.handle_new_event(started(run)); watch_this_process(); "
        "print(run.run_id, flush=True); sys.stdin.readline()"
    )
    environment = {**os.environ, "DAGSTER_HOME": str(dagster_home)}
    for kill in (False, True):
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        run_id = process.stdout.readline().strip()
        (watcher,) = psutil.Process(process.pid).children()
        assert os.getsid(watcher.pid) != os.getsid(process.pid)
        if kill:
            process.kill()
        process.communicate("\n", timeout=60)
        watcher.wait(60)
        with dg.DagsterInstance.from_config(str(dagster_home)) as instance:
            status = instance.get_run_by_id(run_id).status
        # That of a run which ended as it should is its own to write.
        assert status is (dg.DagsterRunStatus.FAILURE if kill else dg.DagsterRunStatus.STARTED)


def test_a_retry_waits_longer_each_time(monkeypatch, capsys):
    waited = []
    monkeypatch.setattr(time, "sleep", waited.append)
    for number in ("1", "2", "3"):
        wait_before_retrying(dg.DagsterRun("training", tags={"dagster/retry_number": number}))
    wait_before_retrying(dg.DagsterRun("training"))
    assert waited == [5, 10, 20]
    assert "retry 3 of a run that was killed begins in 20 s" in capsys.readouterr().out


def test_a_clock_that_is_set_kills_nobody(monkeypatch):
    """Linux then has another time of boot, from which every process's start is computed."""
    name = this_process()
    set_back = psutil.boot_time() - 3600
    for module in (psutil, psutil._pslinux):
        monkeypatch.setattr(module, "boot_time", lambda: set_back)
    assert is_alive(name)
