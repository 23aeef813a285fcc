"""What the five reports claim, as claims.yaml holds it. Nothing of ours stands here."""

from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field, model_validator

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


class Published(Settings):
    """All reports by letter, and all of their claims."""

    reports: dict[str, Publication]
    claims: tuple[Claim, ...]
    imagenet_files: dict[str, str] = Field(default_factory=dict)
    """sha256 of files that hold the ImageNet weights which Keras fetches, by name"""

    @model_validator(mode="after")
    def _every_claim_has_a_report(self) -> "Published":
        if unknown := {
            claim.system for claim in self.claims if claim.system[0] not in self.reports
        }:
            raise ValueError(f"claims of no report: {', '.join(sorted(unknown))}")
        return self


def load_published() -> Published:
    """The reports and claims of claims.yaml."""
    text = Path(__file__).with_name("claims.yaml").read_text(encoding="utf-8")
    return Published.model_validate(yaml.safe_load(text))
