"""What every asset shares: the resource with the launch-time settings, and its declaration.

What happens around an asset's body is in `steps.py`.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

import dagster as dg
from pydantic import Field, PrivateAttr

from cifar_pipeline.defs.follower import Follower
from cifar_pipeline.defs.steps import REPORTED_ONLY, Step, alone
from cifar_pipeline.errors import PipelineError, refusals_in_words
from cifar_pipeline.graph.plan import version_of
from cifar_pipeline.graph.stages import Stage
from cifar_pipeline.paths import Workspace
from cifar_pipeline.saying import about
from cifar_pipeline.settings.params import PROFILES

ProfileName = StrEnum("ProfileName", {name: name for name in PROFILES})  # type: ignore[misc]
"""The profiles as the launchpad offers them."""


class Pipeline(dg.ConfigurableResource):
    """The settings that a run can be launched with."""

    profile: ProfileName | None = Field(
        default=None,
        description="The profile to make the active one, in params.yaml, before the first step. "
        "Default: the one that is active.",
    )

    _follower: Follower = PrivateAttr()

    @property
    def follower(self) -> Follower:
        """What tells trackers of the step that runs."""
        return self._follower

    @contextmanager
    def step(self, context: dg.AssetExecutionContext, stage: Stage) -> Iterator[Step]:
        """The frame of an asset's body; see `Step`. A PipelineError fails the step, once."""
        step, own = None, Workspace.current().lock(stage.name)
        try:
            with refusals_in_words(), about("/".join(stage.key)), alone(own, context.log):
                step = Step.begin(context, stage)
                self._follower = step.follower
                with step.follower, step.devices():
                    yield step
        except PipelineError as error:
            raise dg.Failure(str(error), allow_retries=False) from None
        finally:
            if step:
                step.discard()


def check_specs(stage: Stage, checks: Mapping[str, str]) -> list[dg.AssetCheckSpec]:
    """Specs of the checks that an asset makes of its result, by name and description.

    They block what comes after, unless they only report a fact.
    """
    return [
        dg.AssetCheckSpec(
            name,
            asset=dg.AssetKey(stage.key),
            blocking=name not in REPORTED_ONLY,
            description=description,
        )
        for name, description in checks.items()
    ]


def asset_settings(stage: Stage, group: str, owner: str = "models") -> dict[str, Any]:
    """What the decorator of every asset is given.

    Args:
        owner: the team.
    """
    return {
        "key": dg.AssetKey(stage.key),
        "deps": [dg.AssetKey(key) for key in stage.deps],
        "group_name": group,
        "owners": [f"team:{owner}"],
        "code_version": version_of(stage),
    }
