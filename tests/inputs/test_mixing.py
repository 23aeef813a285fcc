import numpy as np
import pytest

from cifar_pipeline.inputs.mixing import mix
from cifar_pipeline.settings.transforms import Mixing


@pytest.fixture
def batch():
    """Each image is one grey, and its label's number."""
    numbers = np.arange(0, 100, 10)
    images = np.broadcast_to(numbers[:, None, None, None], (10, 32, 32, 3)).astype(np.uint8)
    return images, np.eye(100, dtype=np.float32)[numbers]


def mixed(batch, seed, **settings):
    return mix(*batch, Mixing(probability=1.0, **settings), np.random.default_rng(seed))


@pytest.mark.numeric
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_labels_carry_the_share_of_the_pixels(batch, kind, seed):
    images, labels = mixed(batch, seed, **{kind: 1.0})
    assert images.dtype == np.uint8
    assert labels.dtype == np.float32
    assert labels.sum(axis=1) == pytest.approx(np.ones(10))
    # The mean grey is what the labels say it is.
    assert images.mean(axis=(1, 2, 3)) == pytest.approx(labels @ np.arange(100), abs=0.5)


def test_cutmix_pastes_one_rectangle(batch):
    images, _ = mixed(batch, 3, cutmix=1.0)
    pasted = images[0, :, :, 0] == 90
    rows, columns = np.flatnonzero(pasted.any(axis=1)), np.flatnonzero(pasted.any(axis=0))
    assert 0 < pasted.sum() < 1024
    assert pasted[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    assert (images[0][~pasted] == 0).all()


def test_inputs_are_left_alone_and_probability_holds(batch):
    before = batch[0].copy()
    rng = np.random.default_rng(0)
    settings = Mixing(probability=0.3, mixup=0.4)
    changed = [mix(*batch, settings, rng)[0] is not batch[0] for _ in range(1000)]
    assert np.mean(changed) == pytest.approx(0.3, abs=0.05)
    assert np.array_equal(batch[0], before)
