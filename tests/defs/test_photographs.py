"""Folders of photographs in the graph: looked at when somebody asks for it, and predicted then."""

import dagster as dg
import pytest

from cifar_pipeline.artifacts import dvc_md5
from cifar_pipeline.definitions import build_defs
from cifar_pipeline.graph.stages import build_stages
from cifar_pipeline.paths import Workspace
from cifar_pipeline.settings.reading import load_params

FOLDER = dg.AssetKey(["photographs", "holiday"])
TABLE = dg.AssetKey(["photo_predictions", "holiday"])


@pytest.fixture
def definitions(params_file, monkeypatch):
    """Of a workspace whose settings name a folder."""
    monkeypatch.setenv("CIFAR_ROOT", str(params_file.parent))
    text = params_file.read_text()
    params_file.write_text(text.replace("photographs: []", "photographs: [holiday]"))
    return build_defs(load_params(params_file))


@pytest.fixture
def folder(definitions):
    folder = Workspace.current().photographs("holiday")
    folder.mkdir(parents=True)
    (folder / "a.jpg").write_bytes(b"one")
    return folder


def test_without_a_folder_there_is_nothing_to_look_at(params_file):
    definitions = build_defs(load_params(params_file))
    assert not definitions.sensors
    assert not any("photo" in key[0] for key in build_stages(load_params(params_file)))


def test_the_table_is_made_of_the_folder_and_of_every_model(definitions):
    graph = definitions.resolve_asset_graph()
    parents = {key.to_user_string() for key in graph.get(TABLE).parent_keys}
    assert parents == {"photographs/holiday", "export/cnn9", "export/efficientnet_b0"}
    assert not graph.get(FOLDER).is_materializable
    jobs = {job.name for job in definitions.resolve_all_job_defs()}
    assert "photo_predictions_holiday_job" in jobs


def test_the_sensor_is_off_and_sees_what_has_changed(definitions, folder):
    sensor = definitions.resolve_sensor_def("photographs_changed")
    assert sensor.default_status is dg.DefaultSensorStatus.STOPPED
    with dg.DagsterInstance.ephemeral() as instance:

        def look(cursor):
            context = dg.build_sensor_context(instance=instance, cursor=cursor)
            found = sensor.evaluate_tick(context)
            return found.asset_events, found.cursor

        events, cursor = look(None)
        assert [event.asset_key for event in events] == [FOLDER]
        assert events[0].tags["dagster/data_version"] == dvc_md5(folder)
        assert look(cursor) == ([], cursor)
        (folder / "more").mkdir()
        (folder / "more" / "b.png").write_bytes(b"two")
        again, later = look(cursor)
        assert again[0].tags["dagster/data_version"] == dvc_md5(folder) != events[0].tags
        assert look(later)[0] == []


def test_the_table_follows_what_the_sensor_saw(definitions):
    """With the automation switched on."""
    with dg.DagsterInstance.ephemeral() as instance:

        def change(version):
            tags = {"dagster/data_version": version}
            instance.report_runless_asset_event(dg.AssetMaterialization(FOLDER, tags=tags))

        def requested(cursor):
            found = dg.evaluate_automation_conditions(definitions, instance, cursor=cursor)
            return found.get_num_requested(TABLE), found.cursor

        for parent in ("cnn9", "efficientnet_b0"):
            key = dg.AssetKey(["export", parent])
            instance.report_runless_asset_event(dg.AssetMaterialization(key))
        change("1")
        instance.report_runless_asset_event(dg.AssetMaterialization(TABLE))
        _, cursor = requested(None)
        number, cursor = requested(cursor)
        assert number == 0
        change("2")
        number, _ = requested(cursor)
        assert number == 1
