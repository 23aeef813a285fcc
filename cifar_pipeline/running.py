"""Running a part of the graph from a terminal: what to run, and what to show of it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click
from filelock import FileLock, Timeout

from cifar_pipeline.dataset.archive import check_source
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.graph.plan import downstream, upstream
from cifar_pipeline.graph.stages import Key, build_stages
from cifar_pipeline.graph.status import reasons_to_run
from cifar_pipeline.paths import Workspace
from cifar_pipeline.settings.params import Params
from cifar_pipeline.settings.reading import load_params

DETAIL = "| "
"""How a run's output marks what is for the log alone."""
NEWCOMERS = "quick"
"""The profile that the repository names. Only from there is generated data ever chosen."""


def choose_profile(home: Workspace, asked: str | None) -> str:
    """The profile to run: what was asked for, else what params.yaml names.

    A newcomer without a way to the archive gets generated images, and is told so.

    Raises: PipelineError when the archive that the user named cannot be had.
    """
    params = load_params(home.params)
    profile = asked or params.profile
    if profile not in ("smoke", *params.profiles):
        return profile  # `select_profile` says what is wrong with it
    source = params.under(profile).source()
    try:
        check_source(source, home.archive)
        return profile
    except PipelineError:
        if asked or profile != NEWCOMERS or source.named_by_user:
            raise
    click.echo(
        f"The CIFAR-100 archive cannot be reached at {source.shown}, so this runs the profile "
        "`smoke` on generated images; set CIFAR_ARCHIVE (and CIFAR_ARCHIVE_SHA256) to a copy for "
        "the real one."
    )
    return "smoke"


def stages_to_run(
    home: Workspace, params: Params, models: Sequence[str], *, force: bool
) -> tuple[list[Key], list[Key]]:
    """What has to run, in order, and what is up to date.

    Args:
        models: run only what these need, and the pages over all models; everything if empty.
        force: whether what is up to date has to run as well.
    """
    stages = {k: s for k, s in build_stages(params).items() if s.asset != "search"}
    wanted = set(stages)
    if models:
        ends: set[Key] = {(kind, model) for kind in ("report", "export") for model in models}
        needed = upstream(stages, ends)
        wanted = needed | {("leaderboard",), ("ledger",)}
    stale = set(stages) if force else downstream(stages, set(reasons_to_run(params, home)))
    order = [key for key in stages if key in wanted]
    return [key for key in order if key in stale], [key for key in order if key not in stale]


def execute(home: Workspace, job: str, keys: Sequence[Key], *, resume: str) -> None:
    """Run assets; their whole output goes into a log, progress and failures onto the terminal.

    Args:
        job: what the log is called.
        resume: the command that takes an interrupted run up again.

    Raises: PipelineError when it failed, or when the same is running already. Abort when the user
        interrupted it.
    """
    log = home.data / f"{job}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(home.data / f"{job}.lock", timeout=0):
            _execute(home, keys, log, resume)
    except Timeout:
        raise PipelineError(
            f"`{job}` is being run in {home.root} already; wait until it ends, or follow it with "
            f"`tail -f {log}`"
        ) from None


def _execute(home: Workspace, keys: Sequence[Key], log: Path, resume: str) -> None:
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(home.dagster_home),
        "PYTHONUNBUFFERED": "1",
        "PYTHONUTF8": "1",
        "CIFAR_DOOR": "cifar",
    }
    started = time.monotonic()
    with subprocess.Popen(
        command_of(keys),
        cwd=home.root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    ) as process:
        log.write_bytes(b"")
        try:
            with _passing_on(process):
                _show(process, log)
        except KeyboardInterrupt:
            _show(process, log)  # until it has ended: its steps say after which epoch they resume
            click.echo(f"interrupted; `{resume}` takes it up again", err=True)
            raise click.Abort from None
        except OSError:  # nobody reads what is printed, as after `| head`, or the disk is full
            process.terminate()
            process.communicate()
            raise
    if process.returncode:
        raise PipelineError(
            f"the run failed; the whole log is in {log}. When the cause is mended, `{resume}` goes "
            "on from here"
        )
    click.echo(f"done in {(time.monotonic() - started) / 60:.1f} min")


def command_of(keys: Sequence[Key]) -> list[str]:
    """The command whose process runs the assets `keys`."""
    names = ["/".join(key) for key in keys]
    return [sys.executable, "-m", "cifar_pipeline", "materialize", *names]


def _show(process: subprocess.Popen[str], log: Path) -> None:
    assert process.stdout is not None
    with log.open("a", encoding="utf-8") as file:
        for line in process.stdout:
            file.write(line)
            file.flush()
            if not line.startswith(DETAIL):
                click.echo(line, nl=False)


@contextmanager
def _passing_on(process: subprocess.Popen[str]) -> Iterator[None]:
    """Pass on to the process the signals that a terminal does not send to both."""

    def end(signum: int, _: FrameType | None) -> None:
        process.send_signal(signum)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
