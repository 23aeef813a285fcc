"""Settings of the tracking: what is refused, and that they decide nothing."""

import pytest

from cifar_pipeline.errors import PipelineError
from cifar_pipeline.graph.plan import text_of
from cifar_pipeline.graph.stages import build_stages
from cifar_pipeline.settings.reading import load_params
from tests.workspaces import change_yaml


def with_tracking(params_file, tracking):
    change_yaml(params_file, lambda content: content.update(tracking=tracking))
    return load_params(params_file)


@pytest.mark.parametrize(
    ("tracking", "words"),
    [
        ({"mlflow": {"store": "https://me:secret@host"}}, "set MLFLOW_TRACKING_USERNAME"),
        ({"mlflow": {"store": "mlruns"}}, "neither `local` nor the address of a server"),
        ({"mlflow": {"stor": "local"}}, r"no such key \(did you mean 'store'\?\)"),
        ({"wandb": {"mode": "ofline"}}, r"did you mean 'offline'\?"),
        ({"wandb": {"project": "team/project"}}, "name the user or team under `entity`"),
        ({"neptune": {}}, "tracking.neptune: no such key"),
        ({"wait_s": -1}, "tracking.wait_s"),
    ],
)
def test_a_mistake_is_an_error_that_names_the_repair(params_file, tracking, words):
    with pytest.raises(PipelineError, match=words) as raised:
        with_tracking(params_file, tracking)
    assert "secret" not in str(raised.value)


def test_nothing_is_tracked_by_default(params_file):
    assert load_params(params_file).tracking.chosen == {}


def test_a_tracker_that_is_switched_on_makes_nothing_stale(params_file):
    before = {key: text_of(stage) for key, stage in build_stages(load_params(params_file)).items()}
    tracking = {"mlflow": {"store": "local"}, "wandb": {"mode": "online"}, "models": "none"}
    params = with_tracking(params_file, tracking)
    assert set(params.tracking.chosen) == {"mlflow", "wandb"}
    after = {key: text_of(stage) for key, stage in build_stages(params).items()}
    assert after == before


def test_no_artefact_depends_on_the_code_of_the_tracking(params_file):
    """Not even on that of the hooks: see `follower.py`."""
    for stage in build_stages(load_params(params_file)).values():
        text = text_of(stage)
        assert '"tracking.' not in text
        assert "follow" not in text
