"""A network that has never seen 20 of the 100 classes, for `benchmarks.none_of_these`.

Command, with CIFAR_WEIGHTS_EFFICIENTNET_B0 set:
python -m benchmarks.held_out --work FOLDER

EfficientNet-B0 under the profile `quick`, without the images of four superclasses. It writes what
the network says of training and validation images to FOLDER/held_out.npz. An interrupted training
resumes.
"""

import argparse
from pathlib import Path

import numpy as np

from cifar_pipeline.inputs.batches import Images, load_images
from cifar_pipeline.models.environment import configure_keras
from cifar_pipeline.models.explanation import explained
from cifar_pipeline.paths import Workspace
from cifar_pipeline.saying import say
from cifar_pipeline.settings.reading import load_params
from cifar_pipeline.training.calibration import fit_temperature
from cifar_pipeline.training.checkpoints import Checkpoints
from cifar_pipeline.training.fit import train

RECIPE = "efficientnet_b0"
SUPERCLASSES = 4
SEED = 19


def held_out_superclasses() -> np.ndarray:
    """The superclasses that the network never sees, in two pairs: to choose by, and to report."""
    return np.random.default_rng(SEED).permutation(20)[:SUPERCLASSES]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    arguments = parser.parse_args()
    configure_keras()
    home = Workspace.current()
    recipe = load_params(home.params).under("quick").recipe(RECIPE)
    outside = held_out_superclasses()

    def without(images: Images) -> Images:
        superclass = load_images(home.table, home.splits, split_of[id(images)], "coarse")
        known = dict(zip(superclass.row_id.tolist(), superclass.label.tolist(), strict=True))
        kept = [known[row] not in outside for row in images.row_id.tolist()]
        return images.take(np.flatnonzero(kept))

    training = load_images(
        home.table, home.splits, "train", per_class=recipe.train_per_class, seed=recipe.seed
    )
    validation = load_images(home.table, home.splits, "validation")
    split_of = {id(training): "train", id(validation): "validation"}
    seen, held_in = without(training), without(validation)
    chosen_by = held_in.take(np.arange(0, len(held_in), 10))
    say(f"{len(seen):,} training images, {len(held_in):,} of {len(validation):,} validation images")
    checkpoints = Checkpoints(arguments.work / "checkpoints", f"held out {outside.tolist()}")
    model = train(
        recipe, seen, chosen_by, checkpoints, lambda record, left: say(str(record.row()))
    ).model
    explaining = explained(model)
    classes = np.unique(seen.label)
    content = {"superclasses": outside, "classes": classes}
    for name, images in (("train", seen), ("validation", validation)):
        said = explaining.predict(images.pixels, batch_size=250, verbose=0)
        content |= {
            f"{name}_logits": said["logits"][:, classes],
            f"{name}_features": said["features"],
            f"{name}_rows": images.row_id,
        }
    place = {label: index for index, label in enumerate(classes.tolist())}
    inside = np.isin(validation.label, classes)
    labels = np.array([place[label] for label in validation.label[inside].tolist()])
    logits = content["validation_logits"][inside]
    content["temperature"] = np.array(fit_temperature(logits, labels).temperature)
    say(f"accuracy on the classes that it knows: {(logits.argmax(axis=1) == labels).mean():.2%}")
    model.save(arguments.work / "model.keras")
    np.savez(arguments.work / "held_out.npz", **content)


if __name__ == "__main__":
    main()
