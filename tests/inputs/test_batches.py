import numpy as np
import pytest

from cifar_pipeline.dataset.splits import build_splits, write_splits
from cifar_pipeline.dataset.table import build_table, read_table, write_table
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.inputs.augmentation import Augmenter
from cifar_pipeline.inputs.batches import Batches, load_images
from cifar_pipeline.params import PROFILES, SplitSettings, load_params, select_profile
from cifar_pipeline.recipes import Augmentation

FLIP = Augmentation(horizontal_flip=0.5, shift_x=0.125, shift_y=0.125)


@pytest.fixture(scope="module")
def images(prepared):
    return load_images(prepared.table, prepared.splits, "train")


def test_images_belong_to_their_rows(images, prepared):
    table = read_table(prepared.table)
    row = int(images.row_id[17])
    assert np.array_equal(images.pixels[17].tobytes(), table["image"][row].as_py())
    assert images.fine_label[17] == table["fine_label"][row].as_py()
    assert len(images) == 800


def test_every_image_once_an_epoch(images):
    batches = Batches(images, 64, augmenter=Augmenter(Augmentation()))
    labels = [batches[index][1] for index in range(len(batches))]
    assert [len(label) for label in labels] == [64] * 12 + [32]
    assert (np.bincount(np.concatenate(labels)) == 8).all()


def test_a_batch_depends_on_seed_epoch_and_index_alone(images):
    first, second = (Batches(images, 32, augmenter=Augmenter(FLIP), seed=5) for _ in range(2))
    for index in (3, 0, 7):  # in whatever order workers ask
        first[index]
    assert np.array_equal(first[2][0], second[2][0])
    first.on_epoch_end()
    assert not np.array_equal(first[2][0], second[2][0])
    resumed = Batches(images, 32, augmenter=Augmenter(FLIP), seed=5, first_epoch=1)
    assert np.array_equal(first[2][0], resumed[2][0])
    assert not np.array_equal(second[2][0], Batches(images, 32, augmenter=Augmenter(FLIP), seed=6)[2][0])


def test_without_augmenter_images_come_as_they_are(images):
    batches = Batches(images, 100, one_hot=100)
    pixels, labels = batches[1]
    assert np.array_equal(pixels, images.pixels[100:200])
    assert np.array_equal(labels.argmax(axis=1), images.fine_label[100:200])
    assert labels.dtype == np.float32


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
        assert not np.array_equal(augmented, images.pixels[:16])


def test_splits_of_another_archive_are_refused(prepared, make_archive, tmp_path, content):
    data = content["test"][b"data"].copy()
    data[0] = 0
    other = build_table(make_archive(test={b"data": data}))
    write_table(other, tmp_path / "t.parquet")
    with pytest.raises(PipelineError, match="materialize `splits` again"):
        load_images(tmp_path / "t.parquet", prepared.splits, "train")
    write_splits(build_splits(other, SplitSettings(validation_fraction=0.2, seed=1)), tmp_path / "s.parquet")
    assert len(load_images(tmp_path / "t.parquet", tmp_path / "s.parquet", "validation")) == 200


def test_missing_table_is_one_message(tmp_path):
    with pytest.raises(PipelineError, match="is missing; materialize"):
        load_images(tmp_path / "t.parquet", tmp_path / "s.parquet", "train")
