"""What the five reports claim, as claims.yaml holds it. Nothing of ours stands here."""

from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field, model_validator

from cifar_pipeline.drawing.numbers import NONE
from cifar_pipeline.settings.base import Settings


class Publication(Settings):
    """A report whose claims are judged."""

    author: str
    title: str
    url: str = ""
    """empty where it is not public"""
    code: str = ""
    """where its code is, if that is another place"""


class Claim(Settings):
    """One published figure."""

    system: str
    """the letter of its report, and which of the report's systems it is of"""
    what: str
    recipe: str | None = None
    """ours of that system; None where there is none yet"""
    variant: str | None = None
    """another recipe of ours of that system, shown under other settings"""
    weights: str | None = None
    """that it started from"""
    metric: Literal["top1", "nll", "parameters", "trainable_parameters"]
    value: float | None = None
    """as the report's text states it; None where it is silent"""
    output: float | None = None
    """as a stored output of its notebook states it; judged where the text is silent"""
    evidence: str
    """what its own code and outputs show"""


class Condition(Settings):
    """What a statement says of one setting of a study, or of one beside another."""

    study: str
    of: str
    """the setting that is measured, in words or as the name of a recipe"""
    minus: str | None = None
    """the setting whose figure is subtracted, seed by seed"""
    metric: str
    above: float | None = None
    below: float | None = None

    @model_validator(mode="after")
    def _has_one_bound(self) -> "Condition":
        if (self.above is None) == (self.below is None):
            raise ValueError(f"the condition on {self.of} needs one bound, `above` or `below`")
        return self


class Statement(Settings):
    """A published claim that is not one figure."""

    system: str
    says: str
    """the claim in our words"""
    conditions: tuple[Condition, ...] = ()
    """all of which hold if the statement is true; none where nothing can be trained"""
    evidence: str = NONE
    """what its own outputs or the source that it cites show, and how the claim is understood"""


class Published(Settings):
    """All reports by letter, and all of their claims."""

    reports: dict[str, Publication]
    claims: tuple[Claim, ...]
    statements: tuple[Statement, ...] = ()
    studies: dict[str, str] = Field(default_factory=dict)
    """of the conditions, by name: what is trained, and what it is measured on"""
    imagenet_files: dict[str, str] = Field(default_factory=dict)
    """sha256 of files that hold the ImageNet weights which Keras fetches, by name"""

    @model_validator(mode="after")
    def _every_claim_has_a_report(self) -> "Published":
        systems = [
            *(claim.system for claim in self.claims),
            *(statement.system for statement in self.statements),
        ]
        if unknown := {system for system in systems if system[0] not in self.reports}:
            raise ValueError(f"claims of no report: {', '.join(sorted(unknown))}")
        return self

    @model_validator(mode="after")
    def _every_condition_has_a_study(self) -> "Published":
        studies = {
            condition.study for statement in self.statements for condition in statement.conditions
        }
        if unknown := studies - self.studies.keys():
            raise ValueError(f"conditions of no study: {', '.join(sorted(unknown))}")
        return self


def load_published() -> Published:
    """The reports and claims of claims.yaml."""
    text = Path(__file__).with_name("claims.yaml").read_text(encoding="utf-8")
    return Published.model_validate(yaml.safe_load(text))
