from cifar_pipeline.evaluation import progress
from cifar_pipeline.evaluation.progress import Steps


def test_no_estimate_before_there_are_steps_to_estimate_from(monkeypatch, capsys):
    """The first step, which also traces, took 30 s; each later one takes 2 s."""
    seconds = iter([0, 30, 32, 34, 36])
    monkeypatch.setattr(progress, "monotonic", lambda: next(seconds))
    steps = Steps("predicting 10 images", 4)
    for _ in range(4):
        steps.finish_one()
    assert capsys.readouterr().err.splitlines() == [
        "predicting 10 images, 4 steps",
        "predicting 10 images: step 2 of 4, about 4 s left",
        "predicting 10 images: done in 36 s",
    ]


def test_long_times_are_in_minutes():
    assert (progress.duration(119), progress.duration(150)) == ("119 s", "2 min")
