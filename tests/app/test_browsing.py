"""What the browser of the test split shows, and in which order."""

import numpy as np
import pytest

from cifar_pipeline.dataset.table import read_table
from cifar_pipeline.evaluation.calibration import scale
from cifar_pipeline.evaluation.metrics import Predictions
from cifar_pipeline.reports.browsing import SHOWS, TestSplit
from tests.app.conftest import DUPLICATES


@pytest.fixture
def split(everything):
    duplicates = read_table(everything.test_subsets / "duplicates.parquet")
    return TestSplit.read(everything, "first", read_table(everything.table), duplicates)


def test_each_choice_shows_what_it_says(split):
    predicted = split.predicted
    wrong = np.flatnonzero(predicted.predicted != predicted.true)
    assert len(split.places()) == 200
    assert list(split.places("mistakes")) == list(wrong)
    confident = split.places("most confident mistakes")
    assert sorted(confident) == list(wrong)
    assert (np.diff(predicted.probabilities[confident].max(axis=1)) <= 0).all()
    similar = split.answers(split.places("near-duplicates"))
    assert [(answer.row_id, answer.duplicate.row_id) for answer in similar] == [
        pair[:2] for pair in DUPLICATES
    ]
    for show in SHOWS:
        names = {answer.name for answer in split.answers(split.places(show, name="generated_07"))}
        assert names <= {"generated_07"}
        groups = split.answers(split.places(show, superclass="generated_group_07"))
        assert {answer.superclass for answer in groups} <= {"generated_group_07"}
    assert len(split.places(superclass="generated_group_07")) == 10


def test_answers_are_calibrated_and_say_whether_they_are_right(split, everything):
    stored = Predictions.read(everything.predictions("first"))
    expected = scale(stored.probabilities, 1.5)
    for place, answer in enumerate(split.answers(split.places())):
        assert answer.guesses[0].probability == pytest.approx(expected[place].max())
        assert answer.right == (stored.predicted[place] == stored.true[place])
        assert len(answer.guesses) == 5
