"""A recipe: everything that decides what a training produces, apart from its input data.

Types and their rules; no I/O.
"""

from itertools import accumulate
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from cifar_pipeline.settings.architectures import Architecture
from cifar_pipeline.settings.base import Count, Fraction, NotNegative, Seed, Settings
from cifar_pipeline.settings.optimization import Optimizer, Plateau, Schedule
from cifar_pipeline.settings.transforms import Augmentation, Mixing

Target = Literal["fine", "coarse"]


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
