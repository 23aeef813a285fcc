"""Settings of the tracking: where trainings can be followed and compared.

They decide no artefact, so no stage has them among its settings.
"""

import re
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from cifar_pipeline.settings.base import Settings

Seconds = Annotated[float, Field(ge=0, le=600, strict=True)]


class MLflow(Settings):
    """Tracking with MLflow; needs the extra `mlflow`."""

    store: str | None = Field(
        None,
        description="`local` for a database in data/tracking, or the address of a server, such as "
        "`https://mlflow.example.org`, which `$MLFLOW_TRACKING_URI` replaces; `null` switches "
        "MLflow off. Credentials are read from the environment alone",
    )
    experiment: Annotated[str, Field(min_length=1)] = Field(
        "cifar_pipeline", description="the experiment that holds the runs"
    )

    @model_validator(mode="after")
    def _is_an_address_without_secrets(self) -> Self:
        if self.store in (None, "local"):
            return self
        parts = urlsplit(self.store)
        if parts.username or parts.password:
            raise ValueError(
                "`store` has a user name or a password in its address, which git would keep; write "
                "the address without, and set MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, in the environment"
            )
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(
                f"`store: {self.store}` is neither `local` nor the address of a server, such as "
                "`https://mlflow.example.org`"
            )
        return self


class WandB(Settings):
    """Tracking with Weights & Biases; needs the extra `wandb`."""

    mode: Literal["disabled", "offline", "online"] = Field(
        "disabled",
        description="`offline` writes files to data/tracking that `wandb sync` sends; `online` "
        "sends to the account whose key is `$WANDB_API_KEY`",
    )
    project: Annotated[str, Field(min_length=1, max_length=128)] = Field(
        "cifar_pipeline", description="the project that holds the runs"
    )
    entity: str | None = Field(
        None, description="the user or team that the project belongs to; by default the account's"
    )

    @model_validator(mode="after")
    def _is_a_name(self) -> Self:
        if found := re.search(r"[/\\#?%:]", self.project):
            raise ValueError(
                f"`project: {self.project}` has a {found.group()!r}, which Weights & Biases does "
                "not take; leave it out, and name the user or team under `entity`"
            )
        return self


class Tracking(Settings):
    """Where trainings and searches can be followed and compared. Nothing is, by default.

    These settings decide no artefact: switching a tracker on makes nothing stale.
    """

    mlflow: MLflow = Field(MLflow(), description="a local page, or a server")
    wandb: WandB = Field(WandB(), description="Weights & Biases")
    models: Literal["best_epochs", "final", "none"] = Field(
        "best_epochs",
        description="the models that are sent: the weights of each epoch that was the best so far "
        "and the final model, the final model alone, or none",
    )
    wait_s: Seconds = Field(
        10.0,
        description="seconds that a finished step waits for trackers to take what they have not "
        "yet; `cifar track` sends the rest later",
    )

    @property
    def chosen(self) -> dict[str, MLflow | WandB]:
        """The trackers that are switched on, by name."""
        chosen: dict[str, MLflow | WandB] = {}
        if self.mlflow.store:
            chosen["mlflow"] = self.mlflow
        if self.wandb.mode != "disabled":
            chosen["wandb"] = self.wandb
        return chosen
