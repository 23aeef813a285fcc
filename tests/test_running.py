import contextlib
import os
import signal
import subprocess
import sys

import click
import psutil
import pytest

from cifar_pipeline.errors import PipelineError
from cifar_pipeline.paths import Workspace
from cifar_pipeline.running import execute

KEYS = (("table",),)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """`execute` with a program in place of the run that it starts."""

    def start(program):
        monkeypatch.setattr(
            "cifar_pipeline.running.command_of", lambda _: [sys.executable, "-c", program]
        )
        execute(Workspace(tmp_path), "pipeline", KEYS, resume="cifar run --model cnn9")

    return start


def test_details_go_into_the_log_alone(run, tmp_path, capsys):
    run("print('table: started'); print('| a stack trace'); print('größer')")
    said = capsys.readouterr().out
    assert said.startswith("table: started\ngrößer\ndone in 0.0 min")
    log = (tmp_path / "data" / "pipeline.log").read_text(encoding="utf-8")
    assert log == "table: started\n| a stack trace\ngrößer\n"


def test_a_run_that_fails_is_an_error_that_names_the_log(run, tmp_path):
    with pytest.raises(PipelineError, match=r"the run failed; the whole log is in .*pipeline\.log"):
        run("raise SystemExit(1)")


def test_the_same_is_not_run_twice_at_once(run, tmp_path):
    """They would share the log and the checkpoints."""
    program = "import time; print('epoch 1/6', flush=True); time.sleep(5)"
    log = tmp_path / "data" / "pipeline.log"
    code = (
        "import sys; from pathlib import Path; from cifar_pipeline import running\n"
        f"running.command_of = lambda _: [sys.executable, '-c', {program!r}]\n"
        f"running.execute(running.Workspace(Path({str(tmp_path)!r})), 'pipeline', (), resume='')\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as first:
        assert first.stdout.readline() == b"epoch 1/6\n"
        before = log.read_bytes()
        with pytest.raises(PipelineError, match=r"`pipeline` is being run in .* already"):
            run("print('second')")
        assert log.read_bytes() == before
        first.send_signal(signal.SIGTERM)
    run("print('second')")
    assert log.read_text(encoding="utf-8") == "second\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_terminated_command_ends_its_run(run, capsys, number):
    """Otherwise the training would go on without anybody who sees it."""
    program = (
        "import os, signal, sys, time\n"
        "def end(number, frame):\n"
        "    print('resumes after epoch 2/6'); sys.exit(1)\n"
        f"signal.signal({int(number)}, end)\n"
        "print('epoch 2/6'); sys.stdout.flush()\n"
        f"os.kill({os.getpid()}, {int(number)})\n"
        "time.sleep(60)\n"
    )
    before = signal.getsignal(number)
    with pytest.raises(click.Abort):
        run(program)
    said = capsys.readouterr()
    assert "resumes after epoch 2/6" in said.out
    assert said.err == "interrupted; `cifar run --model cnn9` takes it up again\n"
    assert signal.getsignal(number) is before


def test_a_run_whose_output_nobody_reads_ends(run, tmp_path, monkeypatch):
    """As in `cifar run | head -1`."""
    read, write = os.pipe()
    os.close(read)
    program = (
        "import os, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_DFL)\n"  # pytest-xdist's processes ignore it
        "print(os.getpid(), flush=True)\n"
        "time.sleep(60)\n"
    )
    with os.fdopen(write, "w", buffering=1) as nobody:
        monkeypatch.setattr(sys, "stdout", nobody)
        with pytest.raises(BrokenPipeError):
            run(program)
        monkeypatch.undo()
        with contextlib.suppress(BrokenPipeError):
            nobody.close()
    pid = int((tmp_path / "data" / "pipeline.log").read_text())
    assert not psutil.pid_exists(pid)
