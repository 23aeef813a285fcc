"""What holds for every input, tried on inputs that nobody thought of (https://hypothesis.works).

The readers are fuzzed for longer by `benchmarks/fuzzing.py`, which follows the code's branches.
"""

import pickle

import numpy as np
import pyarrow as pa
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cifar_pipeline.dataset.classes import Classes
from cifar_pipeline.dataset.pickles import read_pickle
from cifar_pipeline.dataset.splits import build_splits, split_rows, stratified_subset
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.evaluation.comparison import compare
from cifar_pipeline.evaluation.metrics import Predictions, compute_metrics
from cifar_pipeline.settings.data import SplitSettings
from cifar_pipeline.settings.reading import load_params

# Derandomised, so that a push fails for its own reasons alone.
SOME = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
FEW = settings(SOME, max_examples=40)

leaves = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.dates()
)
trees = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(leaves, inner, max_size=3),
    max_leaves=8,
)
labels = st.lists(st.integers(0, 5), min_size=1, max_size=60).map(np.array)


def places(tree, before=()):
    """The path to each value of a tree of dicts and lists."""
    children = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, child in children:
        yield (*before, key)
        if isinstance(child, dict | list):
            yield from places(child, (*before, key))


def replaced(tree, path, value):
    first, *rest = path
    copy = tree.copy()
    copy[first] = replaced(tree[first], rest, value) if rest else value
    return copy


@pytest.mark.parametrize("name", ["params.yaml", "recipes/cnn9.yaml"])
@FEW
@given(data=st.data())
def test_any_value_in_settings_is_taken_or_refused_in_words(params_file, name, data):
    file = params_file.parent / name
    before = file.read_text(encoding="utf-8")
    tree = yaml.safe_load(before)
    changed = replaced(tree, data.draw(st.sampled_from(list(places(tree)))), data.draw(trees))
    file.write_text(yaml.safe_dump(changed), encoding="utf-8")
    try:
        load_params(params_file)
    except PipelineError:
        pass  # any other exception is a failure
    finally:
        file.write_text(before, encoding="utf-8")


@SOME
@given(value=trees, protocol=st.integers(0, 5))
def test_a_pickle_is_read_as_python_reads_it_or_refused_in_words(value, protocol):
    content = pickle.dumps({"labels": value}, protocol)
    try:
        read = read_pickle(content, "train")
    except PipelineError:
        return  # any other exception is a failure
    np.testing.assert_equal(read, {"labels": value})


@SOME
@given(content=st.binary(max_size=200))
def test_bytes_that_are_no_pickle_are_refused_in_words(content):
    with pytest.raises(PipelineError, match="train"):
        read_pickle(content, "train")


@SOME
@given(train=labels, test=labels, fraction=st.floats(0.01, 0.99), seed=st.integers(0, 2**32 - 1))
def test_splits_share_no_image_and_keep_every_class_in_proportion(train, test, fraction, seed):
    label = np.concatenate([train, test])
    upstream = ["train"] * len(train) + ["test"] * len(test)
    table = pa.table(
        {"row_id": np.arange(len(label)), "upstream_split": upstream, "fine_label": label}
    )
    try:
        splits = build_splits(table, SplitSettings(validation_fraction=fraction, seed=seed))
    except PipelineError:
        return  # too few images for this fraction
    parts = {name: split_rows(splits, name) for name in ("train", "validation", "test")}
    assert sorted(np.concatenate(list(parts.values()))) == list(range(len(label)))
    assert list(parts["test"]) == list(range(len(train), len(label)))
    whole, held_out = (
        np.bincount(label[rows], minlength=6)
        for rows in (np.arange(len(train)), parts["validation"])
    )
    share = len(parts["validation"]) / len(train)
    assert np.abs(held_out - whole * share).max() < 2


@SOME
@given(label=labels, per_class=st.integers(1, 5), seed=st.integers(0, 2**32 - 1))
def test_a_subset_has_as_many_images_of_each_class_as_it_should(label, per_class, seed):
    label = np.unique(label, return_inverse=True)[1]
    rows = np.arange(len(label)) * 3
    try:
        chosen = stratified_subset(rows, label, per_class, seed)
    except PipelineError:
        assert np.bincount(label).min() < per_class
    else:
        assert set(np.bincount(label[chosen // 3])) == {per_class}
        assert list(chosen) == sorted(set(chosen))


@SOME
@given(data=st.data(), seed=st.integers(0, 2**32 - 1))
def test_accuracies_are_within_their_intervals_and_whatever_the_order_of_images(data, seed):
    n = data.draw(st.integers(20, 60))
    few = st.sampled_from([0.0, 0.1, 0.5, 1.0])  # so that some classes are equally likely
    weight = data.draw(arrays.arrays(np.float64, (n, 20), elements=few)) + 1e-3
    probabilities = (weight / weight.sum(axis=1, keepdims=True)).astype(np.float32)
    names = [str(label) for label in range(20)]
    classes = Classes(names, names, np.arange(20))

    def measured(order: np.ndarray) -> dict[str, float]:
        rows, true, of_rows = order, (order % 20).astype(int), probabilities[order]
        return compute_metrics(Predictions(rows, true, of_rows, of_rows, "", ""), classes)

    found = measured(np.arange(n))
    assert found["top1"] <= found["top5"] <= 1
    assert found["top1"] == found["coarse_top1"]
    for name in ("top1", "top5", "coarse_summed", "balanced_accuracy", "nll"):
        assert found[f"{name}_low"] <= found[name] <= found[f"{name}_high"]
    shuffled = measured(np.random.default_rng(seed).permutation(n))
    assert shuffled == pytest.approx(found, rel=1e-5)


@SOME
@given(pairs=st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=80))
def test_a_comparison_the_other_way_round_says_the_opposite(pairs):
    first, second = np.array(pairs).T
    one, other = compare(first, second), compare(second, first)
    assert one["difference"] == -other["difference"]
    assert (one["low"], one["high"]) == pytest.approx((-other["high"], -other["low"]))
    assert one["p_value"] == pytest.approx(other["p_value"])
    assert one["difference"] == pytest.approx(first.mean() - second.mean())
