"""What happens around the body of every asset.

Before it: the settings and the code are what the plan says, and each input is what its producer
recorded. After it: what fails a blocking check replaces nothing; what passes appears whole, is
recorded by DVC together with what was read, and carries DVC's md5 as its data version.
"""

import base64
import logging
import signal
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
from filelock import FileLock, Timeout

from cifar_pipeline.artifacts import digest_of, dvc_md5, remove, replace, staging_path
from cifar_pipeline.checks import Check
from cifar_pipeline.defs.follower import Follower
from cifar_pipeline.defs.following import follow
from cifar_pipeline.defs.gpus import taken
from cifar_pipeline.defs.processes import end_when, end_with, is_here, name_of, this_process
from cifar_pipeline.defs.runs import worker_of
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.graph import data_plane
from cifar_pipeline.graph.plan import in_dvc, read_code_again, text_of
from cifar_pipeline.graph.stages import Stage, build_stages
from cifar_pipeline.graph.versioning import (
    commit_stages,
    recording,
    under_dvc,
    verified_inputs,
)
from cifar_pipeline.paths import Workspace
from cifar_pipeline.settings.params import Params
from cifar_pipeline.settings.reading import load_params

REPORTED_ONLY = {"identical_across_splits", "above_floor", "photographs_readable"}
"""Checks that block nothing. A real archive never passes the first. A model below its floor keeps
its report, for people to see why; the leaderboard refuses it. A broken photograph has its error in
the table."""


ON_DEVICES = {"model", "predictions", "export", "search"}
"""Assets that compute with a network, as those of the pool do."""


PUSHED = "pushed"
"""Metadata: a stage and its entry in dvc.lock, where a node without the folder made it."""
RAY = "ray::JobSupervisor"
"""The process of a Ray cluster that starts a step. A step outlives it otherwise."""
ELSEWHERE_EVERY_S = 10.0
"""How often a step asks whether its run goes on whose process is on another machine."""


@dataclass
class Step:
    """One run of an asset's body.

    Use `staged` for what the body writes, and yield from `finish` at its end.
    """

    home: Workspace
    params: Params
    stage: Stage
    """as the settings that this step reads have it"""
    context: dg.AssetExecutionContext
    follower: Follower
    _read: dict[str, str]
    """md5 of each input"""
    _staged: dict[Path, Path] = field(default_factory=dict)

    @classmethod
    def begin(cls, context: dg.AssetExecutionContext, stage: Stage) -> "Step":
        """Read the settings, and check what the step is about to read.

        Raises: PipelineError when settings, code or inputs are not what was recorded.
        """
        _end_with_the_run(context)
        read_code_again()
        home = Workspace.current()
        params = load_params(home.params)
        stages = build_stages(params)
        if stage.key not in stages:
            raise PipelineError(
                f"'{stage.key[-1]}' was taken out of the graph after this run began; start again"
            )
        current = stages[stage.key]
        step = cls(home, params, current, context, Follower(home, params, current, context, {}), {})
        step._check_plan()
        if data_plane.is_handed_over():
            data_plane.pull_inputs(home, current)
        step._read = step._verified()
        step.follower = follow(home, params, current, context, step._read)
        return step

    def devices(self) -> AbstractContextManager[None]:
        """What a step in the pool computes on."""
        if self.stage.asset not in ON_DEVICES:
            return nullcontext()
        trains = self.stage.asset == "model"
        return taken(
            self.params.recipe(self.stage.key[-1]).gpus if trains else "one", self.context.log
        )

    def staged(self, target: Path) -> Path:
        """Where to write `target`, which replaces what is there if the checks pass."""
        self._staged[target] = staging_path(target)
        return self._staged[target]

    def finish(
        self, checks: Sequence[Check] = (), metadata: dict[str, Any] | None = None
    ) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
        """Put what was staged in its place, and record it.

        Yields: what the asset yields.

        Raises:
            Failure: says what a blocking check found; nothing is replaced then.
            PipelineError: an input or a setting changed while the body ran.
        """
        for check in checks:
            yield _result(check)
        if failed := [c for c in checks if not c.passed and c.name not in REPORTED_ONLY]:
            raise dg.Failure("\n".join(self._described(failed)), allow_retries=False)
        for line in self._described([check for check in checks if not check.passed]):
            self.context.log.warning(line)
        versions = self._record()
        pushed: dict[str, Any] = {}
        if data_plane.is_handed_over() and in_dvc(self.stage, self.params):
            entry = data_plane.push(self.home, self.stage)
            pushed = {PUSHED: {"stage": self.stage.name, "entry": entry}}
        path = dg.MetadataValue.path(self.home.root / self.stage.outputs[0])
        generated = {"generated images": True} if self._is_of_generated_images() else {}
        self.follower.finish(metadata or {})
        yield dg.MaterializeResult(
            data_version=dg.DataVersion(_data_version(versions)),
            metadata={
                "path": path,
                "profile": self.params.profile,
                **generated,
                **pushed,
                **(metadata or {}),
                **self.follower.shown,
            },
        )

    def _record(self) -> dict[str, str]:
        """Put what was staged in its place, and have DVC record it with what it was made from.

        Returns: the md5 of each output.

        Raises: PipelineError when an input or a setting has changed.
        """
        with recording(self.home):
            self._check_unchanged()
            for target, temporary in self._staged.items():
                replace(temporary, target)
            self._staged.clear()
            versions = {output: dvc_md5(self.home.root / output) for output in self.stage.outputs}
            if not under_dvc() and in_dvc(self.stage, self.params):
                commit_stages(self.home, self.stage.name, check=self._check_unchanged)
        return versions

    def discard(self) -> None:
        """Remove what was staged and not put in its place."""
        for temporary in self._staged.values():
            remove(temporary)
        self._staged.clear()

    def _is_of_generated_images(self) -> bool:
        """What the table holds, which need not be what the active profile asks for."""
        from cifar_pipeline.dataset.generated import is_generated

        if self.stage.asset == "archive" or not self.home.table.is_file():
            return self.params.source().kind == "generated"
        return is_generated(self.home.table)

    def _check_unchanged(self) -> None:
        self._check_plan()
        if self._verified() != self._read:
            raise PipelineError(
                f"an input of `{'/'.join(self.stage.key)}` was made anew while it ran, so what it "
                "made belongs to the old one and is not recorded; start again"
            )

    def _check_plan(self) -> None:
        """That this step's settings and code are those that DVC and Dagster will record."""
        if not in_dvc(self.stage, self.params):
            return
        path = self.home.plan(self.stage.key)
        if not path.is_file() or path.read_text(encoding="utf-8") != text_of(self.stage):
            # DVC does not see what CIFAR_ variables and weights files say.
            again = "run `cifar plan`, then `dvc repro` again" if under_dvc() else "start again"
            raise PipelineError(
                f"the settings or the code of `{'/'.join(self.stage.key)}` changed after this run "
                "had planned its steps, so that what it makes would be recorded under other "
                f"settings than it was made with; {again}"
            )

    def _verified(self) -> dict[str, str]:
        stages = build_stages(self.params)
        producers = [stages[key] for key in self.stage.deps]
        return verified_inputs(self.home, self.stage, producers)

    def _described(self, checks: Sequence[Check]) -> list[str]:
        specs = {spec.name: spec.description or "" for spec in self.context.assets_def.check_specs}
        return [check.message(specs[check.name]) for check in checks]


def _end_with_the_run(context: dg.AssetExecutionContext) -> None:
    """A step whose run was killed would go on for hours, and nobody would record what it made. One
    whose node has left its Ray cluster was submitted again elsewhere, where a word of this one
    would be taken for its own."""
    for parent in psutil.Process().parents():
        if parent.name() == RAY:
            end_with(name_of(parent), "Ray on this node", signal.SIGKILL)
    instance, run_id = context.instance, context.run_id
    run = instance.get_run_by_id(run_id)
    process = worker_of(run) if run else None
    if process and not is_here(process):

        def is_over() -> bool:
            with suppress(Exception):  # a data base that cannot be reached says nothing
                found = instance.get_run_by_id(run_id)
                return found is None or found.is_finished
            return False

        end_when(is_over, f"run {run_id[:8]}", ELSEWHERE_EVERY_S)
    elif process and process != this_process():
        end_with(process, f"the process of run {run_id[:8]}")


@contextmanager
def alone(path: Path, log: logging.Logger) -> Iterator[None]:
    """Hold the lock at `path`, so that no other process makes the same or writes its checkpoints:
    another run, or what is left of one that was killed, which ends within seconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.warning("another process makes the same; waiting until it has ended")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def inline(picture: Path) -> dg.MarkdownMetadataValue:
    """A picture as metadata; the UI opens it in a dialog."""
    encoded = base64.b64encode(picture.read_bytes()).decode()
    return dg.MetadataValue.md(f"![{picture.stem}](data:image/png;base64,{encoded})")


def _result(check: Check) -> dg.AssetCheckResult:
    reported_only = check.name in REPORTED_ONLY
    severity = dg.AssetCheckSeverity.WARN if reported_only else dg.AssetCheckSeverity.ERROR
    words = {"found": check.found, "expected": check.limit}
    if not check.passed:
        words["repair"] = check.repair
    return dg.AssetCheckResult(
        check_name=check.name,
        passed=check.passed,
        severity=severity,
        metadata={**check.details, **{key: text for key, text in words.items() if text}},
    )


def _data_version(versions: dict[str, str]) -> str:
    """DVC's md5 where there is one output; of several, a checksum over theirs."""
    if len(versions) == 1:
        return next(iter(versions.values()))
    return digest_of(versions)
