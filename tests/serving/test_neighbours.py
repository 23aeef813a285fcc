"""The training images that a model finds most like a photograph."""

import numpy as np
import pytest

from cifar_pipeline.dataset.table import pixels, read_table
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.serving.exported import ExportedModel
from cifar_pipeline.serving.neighbours import Neighbours


@pytest.fixture(scope="module")
def model(exported):
    return ExportedModel(exported)


@pytest.fixture(scope="module")
def images(served):
    """Row ids and pixels; the last image is the first one again."""
    rows = np.append(np.arange(30, 90), 30)
    return rows, pixels(read_table(served.table))[rows]


@pytest.fixture(scope="module")
def neighbours(model, images):
    return Neighbours.of(model, *images)


def test_an_image_is_most_similar_to_itself_and_its_copy(model, images, neighbours):
    row_id, nearest = images[0], model.answer(images[1][:5]).features
    for place in range(1, 5):
        found, similarity = neighbours.nearest(nearest[place], 3)
        assert found[0] == row_id[place]
        assert similarity[0] == pytest.approx(1, abs=2e-3)
        assert list(similarity) == sorted(similarity, reverse=True)
    found, similarity = neighbours.nearest(nearest[0], 2)
    assert list(found) == [30, 30]


def test_what_is_written_is_read_and_the_same_arrays_give_the_same_bytes(neighbours, tmp_path):
    for name in ("a.npz", "b.npz"):
        neighbours.write(tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    read = Neighbours.read(tmp_path / "a.npz")
    for name, array in vars(neighbours).items():
        assert (getattr(read, name) == array).all()


@pytest.mark.parametrize("content", [b"", b"PK\3\4 and so on", None])
def test_a_damaged_or_missing_file_is_a_sentence(tmp_path, content):
    path = tmp_path / "cnn9" / "neighbours.npz"
    path.parent.mkdir()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PipelineError, match="`cifar export cnn9`"):
        Neighbours.read(path)


def test_an_export_has_training_images_of_every_class_beside_it(served):
    read = Neighbours.read(served.export("cnn9") / "neighbours.npz")
    table = read_table(served.table)
    splits = read_table(served.splits)["split"].to_pylist()
    assert {splits[row] for row in read.row_id} == {"train"}
    counts = np.bincount(table["fine_label"].to_numpy()[read.row_id])
    assert len(counts) == 100
    assert (counts == 8).all()  # all that there are
