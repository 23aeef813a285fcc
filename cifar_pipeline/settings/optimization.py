"""The optimiser, and the learning rate over a training. Types and their rules; no I/O."""

from typing import Literal, Self

from pydantic import BaseModel, Field, model_validator

from cifar_pipeline.settings.architectures import Part
from cifar_pipeline.settings.base import Count, Fraction, OpenFraction, Positive, Settings


class Optimizer(Settings):
    """A Keras optimiser. Source of the defaults: keras.io."""

    name: Literal["adam", "adamw", "sgd", "rmsprop", "muon"] = Field(
        description="which optimiser; `muon` leaves biases, BatchNorm and the output layer to AdamW"
    )
    learning_rate: Positive = Field(description="the learning rate, which the schedule scales")
    weight_decay: Fraction = Field(
        0.0, description="decoupled, of kernels only; not for `adam`, whose form is `adamw`"
    )
    momentum: Fraction = Field(0.0, description="`sgd` and `rmsprop` only")
    nesterov: bool = Field(False, description="Nesterov's form of momentum; `sgd` only")
    clip_norm: Positive | None = Field(None, description="largest global norm of the gradients")
    ema: OpenFraction | None = Field(
        None,
        description="validate and save a moving average of the weights with this momentum",
    )
    part_rates: dict[Part, Positive] = Field(
        {}, description="factors of the learning rate of stem, body and head; default: 1"
    )

    @model_validator(mode="after")
    def _fits_its_name(self) -> Self:
        if self.name == "adam" and self.weight_decay:
            raise ValueError("`weight_decay` with `adam`; name it `adamw`")
        if self.name in ("adam", "adamw", "muon") and self.momentum:
            raise ValueError(
                f"`momentum` with `{self.name}`, which has its own; remove it, or use `sgd` "
                "or `rmsprop`"
            )
        if self.nesterov and not (self.name == "sgd" and self.momentum):
            raise ValueError("`nesterov` needs `name: sgd` and a `momentum`")
        return self


class Restart(Settings):
    """A new cycle of the schedule."""

    after: Count = Field(description="number of epochs before the restart")
    rate: Positive = Field(1.0, description="factor of the recipe's learning rate")


class Schedule(Settings):
    """Learning rate over the steps of a training."""

    name: Literal["constant", "cosine", "one_cycle"] = Field(
        "constant", description="`cosine` falls from the start, `one_cycle` rises linearly first"
    )
    warmup: OpenFraction = Field(
        0.25, description="share of a cycle's steps in which the rate rises; `one_cycle` only"
    )
    final: Fraction = Field(
        0.0, description="share of the rate that is left at the end; not for `constant`"
    )
    restarts: tuple[Restart, ...] = Field(
        (), description="the schedule begins again, as in SGDR (Loshchilov & Hutter 2017)"
    )

    @model_validator(mode="after")
    def _fits_its_name(self) -> Self:
        if self.name != "one_cycle" and "warmup" in _changed(self):
            raise ValueError(f"`warmup` with the schedule `{self.name}`; only `one_cycle` rises")
        if self.name == "constant" and self.final:
            raise ValueError(
                "`final` with a constant rate, which is the same at the end; use `cosine`"
            )
        if self.name == "constant" and self.restarts:
            raise ValueError(
                "`restarts` of a constant rate, which never ends; use `cosine` or `one_cycle`"
            )
        ends = [restart.after for restart in self.restarts]
        if ends != sorted(set(ends)):
            raise ValueError(f"`restarts` after {ends} epochs; write them in order, each once")
        return self


class Plateau(Settings):
    """Multiply the learning rate by `factor` after `patience` epochs without a lower mean
    validation loss."""

    patience: Count = Field(description="epochs without a lower loss")
    factor: OpenFraction = Field(description="what the learning rate is multiplied by")
    minimum: Positive = Field(description="the lowest learning rate")


def _changed(settings: BaseModel) -> set[str]:
    return {
        name
        for name, field in type(settings).model_fields.items()
        if getattr(settings, name) != field.get_default()
    }
