"""A recipe: everything that decides what a training produces, apart from its input data.

Types and their rules; no I/O.
"""

from itertools import accumulate
from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, model_validator

from cifar_pipeline.settings.architectures import Architecture, Part
from cifar_pipeline.settings.base import (
    Count,
    Fraction,
    NotNegative,
    OpenFraction,
    Positive,
    Seed,
    Settings,
)

Target = Literal["fine", "coarse"]


def _changed(settings: BaseModel) -> set[str]:
    return {
        name
        for name, field in type(settings).model_fields.items()
        if getattr(settings, name) != field.get_default()
    }


class Phase(Settings):
    """How the network is trained in an epoch, apart from the learning rate."""

    size: Count = Field(description="height and width in pixels that the network sees")
    freeze_batch_norm: bool = False
    freeze_blocks: NotNegative = 0


class Step(Settings):
    """Some epochs at another image size. Frozen parts default to what the recipe says."""

    epochs: Count = Field(description="how many epochs")
    size: Count = Field(description="height and width in pixels that the network sees")
    freeze_batch_norm: bool | None = Field(None, description="as in the recipe, for these epochs")
    freeze_blocks: NotNegative | None = Field(
        None, description="as in the recipe, for these epochs"
    )


class Augmentation(Settings):
    """Random transforms of training images: probabilities, or ranges as fractions of the image
    size unless another unit is given."""

    order: Literal["native", "resized"] = Field(
        "native", description="augment before or after resizing the image"
    )
    horizontal_flip: Fraction = Field(0.0, description="probability of a mirror image")
    vertical_flip: Fraction = Field(0.0, description="probability of an image upside down")
    grid_distortion: Fraction = Field(0.0, description="probability of a distorted grid")
    elastic: Fraction = Field(0.0, description="probability of an elastic deformation")
    rotate: Annotated[float, Field(ge=0, le=180, strict=True)] = Field(
        0.0, description="largest angle in degrees, in both directions"
    )
    shear: Annotated[float, Field(ge=0, le=90, strict=True)] = Field(
        0.0, description="largest angle in degrees, in both directions"
    )
    zoom: Fraction = Field(0.0, description="largest change of scale, in both directions")
    shift_x: Fraction = Field(0.0, description="largest horizontal shift, in both directions")
    shift_y: Fraction = Field(0.0, description="largest vertical shift, in both directions")
    color: Fraction = Field(
        0.0, description="largest change of brightness, contrast and saturation"
    )
    erase: Fraction = Field(
        0.0,
        description="probability of a grey rectangle whose sides are a quarter to half of the "
        "image's (cutout)",
    )


class Mixing(Settings):
    """Blend the images of a batch in pairs, and their labels, by mixup (Zhang 2018), CutMix
    (Yun 2019), or either with equal probability when both are set."""

    probability: Fraction = Field(description="share of the batches")
    mixup: Positive | None = Field(None, description="alpha of the Beta distribution")
    cutmix: Positive | None = Field(None, description="alpha of the Beta distribution")

    @model_validator(mode="after")
    def _has_a_kind(self) -> Self:
        if not (self.mixup or self.cutmix):
            raise ValueError("set `mixup` or `cutmix` to an alpha, or `mixing: null`")
        return self


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


class Recipe(Settings):
    """Everything that decides what a training produces, apart from its input data."""

    architecture: Architecture = Field(description="the network, by its `name`")
    target: Target = Field(
        "fine", description="what is predicted: the 100 classes, or the 20 superclasses"
    )
    image_size: Count = Field(
        description="height and width in pixels that the saved model's network sees"
    )
    progressive: tuple[Step, ...] = Field(
        (),
        description="the first epochs, in order, at other image sizes; the remaining ones use "
        "`image_size` and `freeze_*`",
    )
    interpolation: Literal["bicubic", "bilinear", "nearest"] = Field(
        "bicubic", description="how images are resized"
    )
    weights: str = Field(
        description="`imagenet` (fetched by Keras), `none`, or the path of a Keras weights file"
    )
    freeze_batch_norm: bool = Field(
        False, description="keep BatchNorm's statistics and scales as the weights have them"
    )
    batch_norm_momentum: Fraction | None = Field(
        None,
        description="momentum of BatchNorm's moving statistics; short trainings need a lower one "
        "than Keras' default",
    )
    freeze_blocks: NotNegative = Field(
        0, description="the stem and this many of the first blocks keep their weights"
    )
    float_policy: Literal["float32", "mixed_bfloat16"] = Field(
        "float32", description="precision of the computation; weights are float32 in any case"
    )
    fit_on: Literal["train", "train_and_validation"] = Field(
        "train",
        description="`train_and_validation` trains on the validation images too, for a fixed "
        "number of epochs, so that none are left to choose an epoch or to calibrate by",
    )
    train_per_class: Count | None = Field(
        None, description="train on this many images of each class; default: all of them"
    )
    validation_per_class: Count | None = Field(
        None, description="validate on this many images of each class; default: all of them"
    )
    augmentation: Augmentation = Field(
        Augmentation(), description="random transforms of training images"
    )
    mixing: Mixing | None = Field(None, description="mixup or CutMix; default: neither")
    optimizer: Optimizer = Field(description="optimiser and learning rate")
    schedule: Schedule = Field(
        Schedule(), description="how the learning rate changes over the training"
    )
    plateau: Plateau | None = Field(
        None, description="lower the learning rate when the validation loss stops falling"
    )
    early_stopping: Count | None = Field(
        None, description="stop after this many epochs without a lower mean validation loss"
    )
    label_smoothing: Annotated[float, Field(ge=0, lt=1, strict=True)] = Field(
        0.0, description="share of each label that is spread evenly over all classes"
    )
    batch_size: Count = Field(description="images in a step, over all devices together")
    epochs: Count = Field(description="how often the training images are seen, at most")
    seed: Seed = Field(description="decides initial weights, order of images and augmentation")
    device: Literal["any", "gpu"] = Field(
        "any", description="`gpu` refuses to train on a machine without one"
    )
    gpus: Literal["one", "all"] = Field(
        "one", description="how many of the machine's GPUs share a training"
    )
    cpu_devices: Count = Field(
        1,
        description="devices that a CPU is divided into, each with its share of the cores and of "
        "the batch, and with BatchNorm statistics of its own",
    )

    @model_validator(mode="after")
    def _fits_its_architecture(self) -> Self:
        architecture, name = self.architecture, self.architecture.name
        phases = self.phases
        if not architecture.has_pretrained_weights:
            if self.weights != "none":
                raise ValueError(
                    f"there are no pretrained weights for {name}; write `weights: none`, "
                    f"not '{self.weights}'"
                )
            if any(phase.freeze_blocks or phase.freeze_batch_norm for phase in phases):
                raise ValueError(f"{name} has nothing pretrained to freeze; remove `freeze_*`")
        if self.batch_norm_momentum is not None and not architecture.has_batch_norm:
            raise ValueError(f"{name} has no BatchNorm; remove `batch_norm_momentum`")
        if "stem" in self.optimizer.part_rates and "stem" not in architecture.parts:
            raise ValueError(
                f"a rate for the `stem` with {name}, which has only `body` and `head`; remove it"
            )
        blocks = architecture.freezable_blocks
        if not blocks and any(phase.freeze_blocks for phase in phases):
            raise ValueError(
                f"`freeze_blocks` with {name}, which cannot be frozen block by block; remove it"
            )
        if any(phase.freeze_blocks > blocks for phase in phases):
            raise ValueError(f"`freeze_blocks` above {blocks}: {name} has {blocks} blocks")
        return self

    @model_validator(mode="after")
    def _has_sizes_of_its_architecture(self) -> Self:
        architecture, name = self.architecture, self.architecture.name
        if self.progressive:
            if not architecture.takes_any_size:
                raise ValueError(
                    f"`progressive` with {name}, whose dense layers take one image size; remove it"
                )
            if (most := architecture.largest_image) and (
                self.image_size != most or any(step.size > most for step in self.progressive)
            ):
                raise ValueError(
                    f"`progressive` with {name} ends at `image_size: {most}` and takes "
                    f"{architecture.smallest_image} to {most} pixels before"
                )
        smallest = architecture.smallest_image
        for size in (self.image_size, *(step.size for step in self.progressive)):
            if size < smallest:
                raise ValueError(f"images of {size} pixels; {name} takes {smallest} or more")
        return self

    @model_validator(mode="after")
    def _does_not_contradict_itself(self) -> Self:
        if self.batch_norm_momentum is not None and all(
            phase.freeze_batch_norm for phase in self.phases
        ):
            raise ValueError(
                "`batch_norm_momentum` with `freeze_batch_norm`, which uses the statistics as they "
                "are; keep one of them"
            )
        if self.progressive and self.augmentation.order == "resized":
            raise ValueError(
                "`progressive` with `augmentation.order: resized`, which resizes once, before "
                "augmenting; use `native`"
            )
        if (used := sum(step.epochs for step in self.progressive)) and used >= self.epochs:
            raise ValueError(
                f"`progressive` takes {used} of {self.epochs} epochs and leaves none at "
                "`image_size`; lower its epochs"
            )
        if self.batch_size % self.cpu_devices:
            raise ValueError(
                f"a `batch_size` of {self.batch_size} with `cpu_devices: {self.cpu_devices}`, "
                "which cannot share it equally; make it a multiple"
            )
        if self.schedule.restarts and (last := self.schedule.restarts[-1].after) >= self.epochs:
            raise ValueError(f"a restart after {last} epochs, of {self.epochs} in all; remove it")
        if self.plateau and self.schedule.name != "constant":
            raise ValueError(
                f"`plateau` with the schedule `{self.schedule.name}`; a plateau rule needs "
                "`constant`"
            )
        return self

    @model_validator(mode="after")
    def _can_choose_an_epoch(self) -> Self:
        for name in ("early_stopping", "plateau"):
            if self.progressive and getattr(self, name):
                raise ValueError(
                    f"`{name}` with `progressive`; losses at different image sizes do not compare; "
                    "remove one of them"
                )
        if self.fit_on == "train_and_validation":
            for name in ("early_stopping", "plateau", "train_per_class", "validation_per_class"):
                if getattr(self, name):
                    raise ValueError(
                        f"`{name}` with `fit_on: train_and_validation`, which leaves no validation "
                        "images; set it to null"
                    )
        return self

    def phase_at(self, epoch: int) -> Phase:
        """How an epoch, counted from 0, is trained."""
        for step in self.progressive:
            if epoch < step.epochs:
                return self._phase(step)
            epoch -= step.epochs
        return self._phase(None)

    @property
    def phases(self) -> list[Phase]:
        """The phases that a training goes through, in order, however many epochs each takes."""
        starts = accumulate((step.epochs for step in self.progressive), initial=0)
        steps = zip((*self.progressive, None), starts, strict=True)
        return [self._phase(step) for step, start in steps if start < self.epochs]

    def _phase(self, step: Step | None) -> Phase:
        """How the epochs of a step are trained, or those after the last one."""
        own = Phase(
            size=self.image_size,
            freeze_batch_norm=self.freeze_batch_norm,
            freeze_blocks=self.freeze_blocks,
        )
        changes = step.model_dump(exclude={"epochs"}, exclude_none=True) if step else {}
        return own.model_copy(update=changes)
