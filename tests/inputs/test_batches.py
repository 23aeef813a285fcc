import os
import subprocess
import sys

import numpy as np
import psutil
import pytest

from cifar_pipeline.dataset.build import build_table, write_table
from cifar_pipeline.dataset.splits import build_splits, write_splits
from cifar_pipeline.dataset.table import read_table
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.inputs.augmentation import Augmenter
from cifar_pipeline.inputs.batches import load_images, steps_per_epoch, training_batches
from cifar_pipeline.settings.data import SplitSettings
from cifar_pipeline.settings.editing import select_profile
from cifar_pipeline.settings.params import PROFILES
from cifar_pipeline.settings.reading import load_params
from cifar_pipeline.settings.recipe import Recipe
from cifar_pipeline.settings.transforms import Augmentation
from tests.workspaces import CHECKOUT

FLIP = Augmentation(horizontal_flip=0.5, shift_x=0.125, shift_y=0.125)


@pytest.fixture(scope="module")
def images(prepared):
    return load_images(prepared.table, prepared.splits, "train")


def test_images_belong_to_their_rows(images, prepared):
    table = read_table(prepared.table)
    row = int(images.row_id[17])
    assert np.array_equal(images.pixels[17].tobytes(), table["image"][row].as_py())
    assert images.label[17] == table["fine_label"][row].as_py()
    assert len(images) == 800


def test_labels_of_the_superclasses(images, prepared):
    coarse = load_images(prepared.table, prepared.splits, "train", "coarse")
    assert np.array_equal(coarse.row_id, images.row_id)
    assert (
        coarse.label[17]
        == read_table(prepared.table)["coarse_label"][int(coarse.row_id[17])].as_py()
    )
    assert coarse.one_hot().shape == (800, 20)


def test_splits_are_joined(images, prepared):
    validation = load_images(prepared.table, prepared.splits, "validation")
    both = images.joined(validation)
    assert sorted(both.row_id) == list(range(1000))
    assert np.array_equal(both.pixels[-1], validation.pixels[-1])
    assert both.label[0] == images.label[0]


def recipe(**changes):
    return Recipe.model_validate(
        {
            "architecture": {"name": "cnn9"},
            "image_size": 32,
            "weights": "none",
            "augmentation": FLIP.model_dump(),
            "mixing": {"probability": 0.5, "mixup": 0.4, "cutmix": 1.0},
            "optimizer": {"name": "adam", "learning_rate": 1e-3},
            "batch_size": 64,
            "epochs": 3,
            "seed": 5,
        }
        | changes
    )


def test_every_image_at_most_once_an_epoch(images):
    plain = recipe(augmentation={}, mixing=None)
    batches = list(training_batches(images, plain))
    assert len(batches) == 3 * steps_per_epoch(images, 64) == 36
    for epoch in range(3):
        seen = np.concatenate([pixels for pixels, _ in batches[12 * epoch : 12 * epoch + 12]])
        assert len(np.unique(seen.reshape(len(seen), -1), axis=0)) == 768
    assert not np.array_equal(batches[0][0], batches[12][0])  # shuffled anew


def test_labels_stay_with_their_images(images):
    of = {
        pixels.tobytes(): label for pixels, label in zip(images.pixels, images.label, strict=True)
    }
    pixels, labels = next(iter(training_batches(images, recipe(augmentation={}, mixing=None))))
    assert labels.dtype == np.float32
    assert [of[image.tobytes()] for image in pixels] == labels.argmax(axis=1).tolist()


def same(first, second):
    return all(
        np.array_equal(one, other)
        for pair in zip(first, second, strict=True)
        for one, other in zip(*pair, strict=True)
    )


def test_batches_follow_from_the_seed_alone(images):
    first = list(training_batches(images, recipe()))
    assert same(first, training_batches(images, recipe()))
    assert not same(first, training_batches(images, recipe(seed=6)))


def test_a_resumed_training_gets_what_an_uninterrupted_one_got(images):
    assert same(
        list(training_batches(images, recipe()))[24:],
        training_batches(images, recipe(), first_epoch=2),
    )


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
def test_batches_do_not_depend_on_the_number_of_workers(images, workers):
    assert same(
        list(training_batches(images, recipe())),
        training_batches(images, recipe(), workers=workers),
    )


def test_fewer_images_than_a_batch_are_an_error(images):
    with pytest.raises(
        PipelineError,
        match="800 training images do not fill one batch of 1000; lower the recipe's `batch_size`",
    ):
        training_batches(images, recipe(batch_size=1000))


@pytest.mark.parametrize("profile", PROFILES)
def test_every_recipes_augmentation_gives_images(params_file, images, profile):
    select_profile(params_file, profile)
    params = load_params(params_file)
    for name in params.recipes:
        settings = params.recipe(name).augmentation
        size = 48 if settings.order == "resized" else None
        augmented = Augmenter(settings, resize=size)(images.pixels[:16], seed=1)
        assert augmented.dtype == np.uint8
        assert augmented.shape == (16, size or 32, size or 32, 3)
        assert np.array_equal(augmented, images.pixels[:16]) == (
            settings == Augmentation()
        )  # the ladder has none


@pytest.mark.parametrize("name", [name for name in Augmentation.model_fields if name != "order"])
def test_every_transform_changes_images_within_their_range(images, name):
    strength = {"rotate": 20.0, "shear": 20.0}.get(
        name, 0.9 if name in ("grid_distortion", "elastic") else 0.3
    )
    augmented = Augmenter(Augmentation(**{name: strength}))(images.pixels[:64], seed=1)
    assert augmented.shape == (64, 32, 32, 3)
    assert augmented.dtype == np.uint8
    assert not np.array_equal(augmented, images.pixels[:64])


@pytest.mark.slow
def test_workers_end_with_a_training_that_is_killed(tmp_path):
    program = (
        "import time\n"
        "import numpy as np\n"
        "from cifar_pipeline.inputs.batches import Images, training_batches\n"
        "from tests.inputs.test_batches import recipe\n"
        "if __name__ == '__main__':\n"
        "    pixels, rows = np.zeros((640, 32, 32, 3), np.uint8), np.arange(640)\n"
        "    images = Images(rows, pixels, rows % 100)\n"
        "    batches = iter(training_batches(images, recipe(epochs=10000), workers=2))\n"
        "    next(batches)\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(600)\n"
    )
    (tmp_path / "program.py").write_text(program)
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT)}
    with subprocess.Popen(
        [sys.executable, tmp_path / "program.py"],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        workers = psutil.Process(process.pid).children(recursive=True)
        assert len(workers) >= 2
        process.kill()
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert alive == []


def test_splits_of_another_archive_are_refused(prepared, make_archive, tmp_path, content):
    data = content["test"][b"data"].copy()
    data[0] = 0
    other = build_table(make_archive(test={b"data": data}))
    write_table(other, tmp_path / "t.parquet")
    with pytest.raises(PipelineError, match="materialize `splits` again"):
        load_images(tmp_path / "t.parquet", prepared.splits, "train")
    write_splits(
        build_splits(other, SplitSettings(validation_fraction=0.2, seed=1)), tmp_path / "s.parquet"
    )
    assert len(load_images(tmp_path / "t.parquet", tmp_path / "s.parquet", "validation")) == 200


def test_missing_table_is_one_message(tmp_path):
    with pytest.raises(PipelineError, match="is missing; materialize"):
        load_images(tmp_path / "t.parquet", tmp_path / "s.parquet", "train")
