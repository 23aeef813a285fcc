import numpy as np
import pytest

from cifar_pipeline.errors import PipelineError
from cifar_pipeline.evaluation.ensembles import compare_with_members
from cifar_pipeline.evaluation.metrics import Predictions
from cifar_pipeline.settings.evaluation import Ensemble

TRUE = np.array([0, 1, 2, 3])


def sure(labels, share=1.0, classes=100):
    """`share` for each label, the rest evenly over the others."""
    share = np.broadcast_to(share, len(labels))
    probabilities = np.repeat((1 - share[:, None]) / (classes - 1), classes, axis=1)
    probabilities[np.arange(len(labels)), labels] = share
    return probabilities


def predicted(probabilities, mirrored, **changes):
    fields = {
        "row_id": np.arange(4),
        "true": TRUE,
        "archive_sha256": "archive",
        "model_sha256": "model",
    } | changes
    return Predictions(probabilities=probabilities, mirrored=mirrored, **fields)


def test_the_surer_of_two_decides_and_gain_is_against_the_better():
    models = {
        "surely_half": predicted(
            sure([0, 1, 0, 0], np.array([0.9, 0.9, 0.2, 0.2])), sure([9, 9, 9, 9])
        ),
        "mildly_three": predicted(sure([9, 1, 2, 3], 0.6), sure([9, 9, 9, 9])),
    }
    (row,) = compare_with_members(
        {"both": Ensemble(members=tuple(models))},
        models,
        {"surely_half": 10, "mildly_three": 5, "other": 7},
    ).to_dict("records")
    assert (row["top1"], row["best_member"], row["difference"]) == (1.0, "mildly_three", 0.25)
    assert (row["passes"], row["parameters"], row["mirrored"]) == (2, 15, False)
    of_true = np.array([(0.9 + 0.4 / 99) / 2, 0.75, (0.6 + 0.8 / 99) / 2, (0.6 + 0.8 / 99) / 2])
    assert row["nll"] == pytest.approx(-np.log(of_true).mean())


def test_mirror_images_are_a_second_pass_of_the_same_network():
    models = {"one": predicted(sure([9, 9, 2, 3], 0.5), sure([0, 1, 2, 9], 0.6))}
    (row,) = compare_with_members(
        {"mirrored": Ensemble(members=("one",), mirrored=True)}, models, {"one": 10}
    ).to_dict("records")
    assert (row["top1"], row["passes"], row["parameters"]) == (0.75, 2, 10)
    assert (row["difference"], row["best_member"]) == (0.25, "one")
    of_true = np.array([0.6 + 0.5 / 99, 0.6 + 0.5 / 99, 1.1, 0.5 + 0.4 / 99]) / 2
    assert row["nll"] == pytest.approx(-np.log(of_true).mean())


@pytest.mark.parametrize(
    "other",
    [
        predicted(sure(TRUE), sure(TRUE), row_id=np.arange(1, 5)),
        predicted(sure(TRUE, classes=20), sure(TRUE, classes=20)),
    ],
    ids=["other images", "superclasses"],
)
def test_members_of_different_images_or_classes_are_refused(other):
    models = {"a": predicted(sure(TRUE), sure(TRUE)), "b": other}
    with pytest.raises(
        PipelineError, match="ensemble 'both' predicted different images or classes"
    ):
        compare_with_members({"both": Ensemble(members=("a", "b"))}, models, {"a": 1, "b": 1})


def test_the_best_comes_first_and_superclasses_last():
    models = {
        "bad": predicted(sure([9, 9, 9, 3]), sure([9, 9, 9, 3])),
        "good": predicted(sure([0, 1, 2, 9]), sure([0, 1, 2, 9])),
        "coarse": predicted(sure(TRUE, classes=20), sure(TRUE, classes=20)),
    }
    ensembles = {f"{name}_mirrored": Ensemble(members=(name,), mirrored=True) for name in models}
    table = compare_with_members(ensembles, models, dict.fromkeys(models, 1))
    assert table["ensemble"].tolist() == ["good_mirrored", "bad_mirrored", "coarse_mirrored"]
    assert table["classes"].tolist() == [100, 100, 20]
    assert table["n"].tolist() == [4, 4, 4]


def test_without_ensembles_the_table_is_empty():
    assert len(compare_with_members({}, {}, {})) == 0
