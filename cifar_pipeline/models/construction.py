"""What every architecture's module is given to build its network."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Construction:
    """What decides a network apart from its architecture's settings."""

    size: int | None
    """height and width of its images in pixels; None for images of any size"""
    weights: str
    """`imagenet`, `none`, or the path of a Keras weights file"""
    channel_mean: tuple[float, float, float]
    """of the training pixels, / 255"""
