"""What every asset shares: the active profile, and the frame in which its body runs."""

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from cifar_pipeline.artifacts import dvc_md5
from cifar_pipeline.checks import Check
from cifar_pipeline.defs.runs import WORKER_TAG, worker_process
from cifar_pipeline.defs.stages import Stage
from cifar_pipeline.defs.versioning import commit_stage, under_dvc
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.paths import Workspace
from cifar_pipeline.settings.editing import select_profile
from cifar_pipeline.settings.params import Params
from cifar_pipeline.settings.reading import load_params


class Pipeline(dg.ConfigurableResource):
    """The workspace under one profile."""

    profile: str | None = Field(
        default=None,
        description="smoke, quick, laptop, seed or best; written to params.yaml, as `dvc exp run -S profile=...` does. Empty: its profile.",
    )

    @contextmanager
    def step(self, context: dg.AssetExecutionContext) -> Iterator[tuple[Workspace, Params]]:
        """Frame of an asset's body: selects the profile, and turns a PipelineError into a failure without retries."""
        context.instance.add_run_tags(context.run_id, {WORKER_TAG: worker_process()})
        try:
            home = Workspace.current()
            self._select_profile(home)
            yield home, load_params(home.params)
        except PipelineError as error:
            raise dg.Failure(str(error), allow_retries=False) from None

    def _select_profile(self, home: Workspace) -> None:
        if self.profile is None or self.profile == load_params(home.params).profile:
            return
        if under_dvc():
            raise PipelineError(
                f"dvc runs params.yaml's profile, not '{self.profile}'; use `dvc exp run -S profile={self.profile}`"
            )
        select_profile(home.params, self.profile)
        # Code versions were computed for the old profile when this process loaded the definitions; a new one is right.
        raise dg.RetryRequested(max_retries=1, seconds_to_wait=0)


def finished(
    stage: Stage, checks: Sequence[Check] = (), metadata: dict[str, Any] | None = None
) -> dg.MaterializeResult:
    """What an asset returns: DVC has its files, its data version is DVC's md5, and its checks are attached.

    A failing check leaves DVC alone: what is wrong is not versioned.
    """
    home = Workspace.current()
    versions = {output: dvc_md5(home.root / output) for output in stage.outputs}
    if not under_dvc() and all(check.passed for check in checks if check.name not in REPORTED_ONLY):
        try:
            commit_stage(home, stage.name)
        except PipelineError as error:
            raise dg.Failure(str(error), allow_retries=False) from None
    data_version = next(iter(versions.values())) if len(versions) == 1 else _digest(versions)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(data_version),
        metadata={"path": dg.MetadataValue.path(home.root / stage.outputs[0]), **(metadata or {})},
        check_results=[_check_result(check) for check in checks],
    )


def inline(picture: Path) -> dg.MarkdownMetadataValue:
    """A picture as metadata; the UI opens it in a dialog."""
    return dg.MetadataValue.md(
        f"![{picture.stem}](data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()})"
    )


def _check_result(check: Check) -> dg.AssetCheckResult:
    severity = (
        dg.AssetCheckSeverity.WARN if check.name in REPORTED_ONLY else dg.AssetCheckSeverity.ERROR
    )
    return dg.AssetCheckResult(
        check_name=check.name, passed=check.passed, severity=severity, metadata=check.details
    )


REPORTED_ONLY = {"identical_across_splits"}
"""Checks that report a fact of the data set; a real archive never passes them."""


def check_specs(stage: Stage, checks: Mapping[str, str]) -> list[dg.AssetCheckSpec]:
    """Specs of the checks (name: description) an asset attaches to its result; blocking, unless they only report."""
    return [
        dg.AssetCheckSpec(
            name,
            asset=dg.AssetKey(stage.key),
            blocking=name not in REPORTED_ONLY,
            description=description,
        )
        for name, description in checks.items()
    ]


def asset_settings(stage: Stage, params: Params, group: str) -> dict[str, Any]:
    """What the decorator of every asset about models is given."""
    return {
        "key": dg.AssetKey(stage.key),
        "deps": [dg.AssetKey(key) for key in stage.deps],
        "group_name": group,
        "owners": ["team:models"],
        "code_version": code_version(stage, params),
    }


def code_version(stage: Stage, params: Params) -> str:
    """Digest of what decides a stage's outputs apart from its inputs: its settings and its code. DVC tracks the same."""
    package = Path(__file__).parents[2]
    sources = {
        file.relative_to(package).as_posix(): file.read_text()
        for path in stage.code
        for file in (
            [package / path] if path.endswith(".py") else sorted((package / path).rglob("*"))
        )
        if file.suffix in {".py", ".j2", ".yaml"}
    }
    home = Workspace.current()
    sources |= {
        file: (home.root / file).read_text() for file in stage.files if (home.root / file).is_file()
    }
    return _digest(
        {"settings": {key: params.value(key) for key in stage.params}, "sources": sources}
    )


def _digest(content: Any) -> str:
    return hashlib.md5(
        json.dumps(content, sort_keys=True).encode(), usedforsecurity=False
    ).hexdigest()
