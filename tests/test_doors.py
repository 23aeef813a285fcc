"""The product as its users run it: real command lines, in fresh copies of the checkout."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
import yaml

from tests.workspaces import JOB, Copy

UP_TO_DATE = "Data and pipelines are up to date."
pytestmark = pytest.mark.xdist_group("doors")  # they share copies of the checkout
UNREACHABLE = "http://127.0.0.1:9/cifar-100-python.tar.gz"


def outputs(copy):
    """md5 of every output in dvc.lock."""
    lock = yaml.safe_load((copy.root / "dvc.lock").read_text())
    return {out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage["outs"]}


def data_versions(copy):
    """Data version of each single-file asset, as the Dagster instance has it."""
    program = (
        "import dagster as dg, json\n"
        "instance = dg.DagsterInstance.get()\n"
        "keys = ['archive', 'table', 'splits', 'predictions/cnn9', 'predictions/efficientnet_b0', 'model/cnn9']\n"
        "events = {key: instance.get_latest_materialization_event(dg.AssetKey(key.split('/'))) for key in keys}\n"
        "print(json.dumps({key: event.asset_materialization.tags['dagster/data_version'] for key, event in events.items()}))"
    )
    return json.loads(copy.run(sys.executable, "-c", program).stdout)


@pytest.fixture(scope="module")
def newcomers(tmp_path_factory):
    """What `make run` does on a machine without internet; what it said, and what it made."""
    copy = Copy(tmp_path_factory.mktemp("newcomer"))
    copy.change("profile: smoke", "profile: quick")
    said = copy.run(sys.executable, "-m", "cifar_pipeline", "run", CIFAR_ARCHIVE=UNREACHABLE).stdout
    return copy, said, outputs(copy)


@pytest.mark.slow
@pytest.mark.timeout(900)
class TestNewcomersDoor:
    """In order: each test leaves the copy as the next one finds it."""

    def test_it_says_what_it_does_and_ends_with_the_figures(self, newcomers):
        copy, said, _ = newcomers
        assert (
            f"cannot be reached at {UNREACHABLE}, so this runs the `smoke` profile on generated images"
            in said
        )
        assert re.search(r"cnn9 +top-1 +\d+\.\d+% \(\d+\.\d+ to \d+\.\d+\)", said)
        shown = copy.run(sys.executable, "-m", "cifar_pipeline", "report", "cnn9").stdout
        assert shown.splitlines()[0] in said
        assert "calibration error" in shown
        assert "epoch 1/" in said
        assert "images/s" in said
        for page in copy.root.glob("data/reports/*/index.html"):
            assert "Generated images, not CIFAR-100" in page.read_text()
        metrics = json.loads((copy.root / "data/reports/cnn9/metrics.json").read_text())
        assert metrics["top1"] > 0.5  # the generated classes can be learned, in seconds

    def test_dvc_agrees_with_what_dagster_made(self, newcomers):
        copy, *_ = newcomers
        assert UP_TO_DATE in copy.dvc("status")
        locked, versions = outputs(copy), data_versions(copy)
        assert versions["archive"] == locked["data/raw/cifar-100-python.tar.gz"]
        assert versions["table"] == locked["data/table/cifar100.parquet"]
        assert versions["splits"] == locked["data/splits/splits.parquet"]
        assert versions["predictions/cnn9"] == locked["data/predictions/cnn9.parquet"]
        assert versions["model/cnn9"] == locked["data/models/cnn9"]
        before = time.monotonic()
        assert "Running stage" not in copy.dvc("repro")
        assert time.monotonic() - before < 30

    def test_metrics_and_plots_are_dvcs(self, newcomers):
        copy, *_ = newcomers
        shown = copy.dvc("metrics", "show")
        assert shown.splitlines()[1].split()[:2] == ["data/leaderboard/metrics.json", "generated"]
        assert max(map(len, shown.splitlines())) < 120
        copy.dvc("plots", "show", "--out", "shown")
        assert "history" in (copy.root / "shown" / "index.html").read_text()
        shutil.rmtree(copy.root / "shown")
        copy.commit("dvc.lock")

    def test_everything_comes_back_from_the_remote(self, newcomers):
        copy, *_ = newcomers
        before = outputs(copy)
        copy.dvc("push")
        shutil.rmtree(copy.root / "data")
        shutil.rmtree(copy.root / ".dvc" / "cache")
        copy.dvc("pull")
        assert UP_TO_DATE in copy.dvc("status")
        assert outputs(copy) == before
        copy.job("splits_job")  # reads the table, and its checks block
        copy.job("leaderboard_job")

    def test_a_changed_recipe_makes_only_its_own_stale(self, newcomers):
        copy, *_ = newcomers
        copy.change("batch_size: 32\n      epochs: 6", "batch_size: 32\n      epochs: 4")
        assert list(json.loads(copy.dvc("status", "--json"))) == ["model@cnn9"]
        ran = re.findall(r"Running stage '(.+?)'", copy.dvc("repro"))
        assert set(ran) == {
            "model@cnn9",
            "predictions@cnn9",
            "report@cnn9",
            "leaderboard",
            "ledger",
        }

    def test_dvc_shows_what_the_change_made_of_the_figures(self, newcomers):
        copy, *_ = newcomers
        changes = json.loads(copy.dvc("metrics", "diff", "--json", "HEAD"))
        assert list(changes) == ["data/leaderboard/metrics.json"]
        change = changes["data/leaderboard/metrics.json"]["nll.cnn9"]
        assert change["diff"] == pytest.approx(change["new"] - change["old"])
        assert change["diff"] > 0
        copy.dvc("plots", "diff", "HEAD", "--out", "shown")
        page = (copy.root / "shown" / "index.html").read_text()
        assert "cnn9: superclasses" in page
        assert "cnn9: training" in page
        shutil.rmtree(copy.root / "shown")

    def test_a_model_below_its_floor_is_refused(self, newcomers):
        copy, *_ = newcomers
        copy.change("smoke: {default: 0.0,", "smoke: {default: 0.5,")
        failed = copy.job("report_efficientnet_b0_job", check=False)
        assert failed.returncode != 0
        assert "above_floor" in failed.stdout + failed.stderr
        failed = copy.job("leaderboard_job", check=False)
        assert failed.returncode != 0
        assert (
            "'efficientnet_b0' is refused: its top-1 accuracy of" in failed.stdout + failed.stderr
        )
        copy.change("smoke: {default: 0.5,", "smoke: {default: 0.0,")

    def test_a_killed_training_goes_on_and_ends_the_same(self, newcomers):
        copy, _, made = newcomers
        copy.change("batch_size: 32\n      epochs: 4", "batch_size: 32\n      epochs: 6")
        command, environment = [*JOB, "model_cnn9_job"], copy.environment
        with subprocess.Popen(
            command,
            cwd=copy.root,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process:
            assert process.stdout is not None
            assert any(line.startswith("epoch 3/6 done") for line in process.stdout)
            os.killpg(process.pid, signal.SIGKILL)
        again = copy.job("model_cnn9_job")
        said = again.stdout + again.stderr
        assert "had died; marked as failed" in said
        assert re.search(r"epoch [23]/6 was the last whole one", said)
        assert "epoch 1/6 done" not in said
        assert not (copy.root / "data/checkpoints/cnn9/smoke").exists()
        copy.job("predictions_cnn9_job")
        assert (
            outputs(copy)["data/predictions/cnn9.parquet"] == made["data/predictions/cnn9.parquet"]
        )

    def test_a_search_is_an_asset_and_a_stage_and_its_winner_a_recipe(self, newcomers):
        copy, *_ = newcomers
        cifar = (sys.executable, "-m", "cifar_pipeline")
        said = copy.run(*cifar, "search", "custom_search").stdout
        assert len(re.findall(r"trial \d of the (draws|grid) complete: architecture", said)) == 4
        assert (copy.root / "data/searches/custom_search/index.html").is_file()
        assert UP_TO_DATE in copy.dvc("status", "search@custom_search")
        refused = copy.run(*cifar, "adopt", "custom_search", "found", check=False)
        assert refused.returncode == 1
        assert "was on generated images, which say nothing" in refused.stderr
        provenance = copy.root / "data/searches/custom_search/provenance.json"
        found = json.loads(provenance.read_text())
        provenance.unlink()
        provenance.write_text(json.dumps(found | {"generated": False}))
        copy.run(*cifar, "adopt", "custom_search", "found")
        assert f"run {found['run']['id']}" in (copy.root / "params.yaml").read_text()
        copy.run(*cifar, "adopt", "custom_search", "found_final", "--final")
        final = yaml.safe_load((copy.root / "params.yaml").read_text())["recipes"]["found_final"][
            "seed"
        ]
        assert (final["fit_on"], final["epochs"]) == ("train_and_validation", found["final_epochs"])
        assert "no report of 'found' yet" in copy.run(*cifar, "report", "found", check=False).stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_dvc_repro_makes_the_same(newcomers, tmp_path):
    """All stages but those after the predictions, which DVC runs when a recipe changes (above)."""
    *_, made = newcomers
    copy = Copy(tmp_path)
    ran = re.findall(
        r"Running stage '(.+?)'", copy.dvc("repro", "predictions@cnn9", "test_subsets")
    )
    assert sorted(ran) == [
        "archive",
        "model@cnn9",
        "predictions@cnn9",
        "splits",
        "table",
        "test_subsets",
    ]
    assert UP_TO_DATE in copy.dvc("status", "--with-deps", "predictions@cnn9", "test_subsets")
    for path in (
        "raw/cifar-100-python.tar.gz",
        "table/cifar100.parquet",
        "splits/splits.parquet",
        "predictions/cnn9.parquet",
    ):
        assert outputs(copy)[f"data/{path}"] == made[f"data/{path}"], path


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_ui_makes_the_same(newcomers, tmp_path):
    """`dagster dev`, and what the button `Materialize all` sends, with the profile given as in the launchpad."""
    *_, made = newcomers
    copy = Copy(tmp_path)
    copy.change(
        "models: [cnn9, efficientnet_b0]", "models: [cnn9]"
    )  # half of the time; the newcomer's run has both
    copy.change("profile: smoke", "profile: quick")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "dagster",
        "dev",
        "--workspace",
        "workspace.yaml",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    with (
        (tmp_path / "dev.log").open("w") as log,
        subprocess.Popen(
            command,
            cwd=copy.root,
            env=copy.environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        ) as dev,
    ):
        try:
            address = f"http://127.0.0.1:{port}"
            wait_for(lambda: answers(address), 120)
            from dagster_graphql import DagsterGraphQLClient

            client = DagsterGraphQLClient("127.0.0.1", port_number=port)
            config = {"resources": {"pipeline": {"config": {"profile": "smoke"}}}}
            run = client.submit_job_execution("pipeline", run_config=config)
            wait_for(
                lambda: client.get_run_status(run).value in {"SUCCESS", "FAILURE", "CANCELED"}, 600
            )
            assert client.get_run_status(run).value == "SUCCESS", (
                tmp_path / "dev.log"
            ).read_text()[-4000:]
        finally:
            # A whole group, and not by SIGINT: shells start background jobs, and so all their children, deaf to it.
            os.killpg(dev.pid, signal.SIGKILL)
    assert "profile: smoke" in (copy.root / "params.yaml").read_text()
    assert UP_TO_DATE in copy.dvc("status")
    for path in (
        "raw/cifar-100-python.tar.gz",
        "table/cifar100.parquet",
        "splits/splits.parquet",
        "predictions/cnn9.parquet",
    ):
        assert outputs(copy)[f"data/{path}"] == made[f"data/{path}"], path


def answers(address):
    try:
        with urllib.request.urlopen(f"{address}/server_info", timeout=5) as response:
            return response.status == 200
    except OSError:
        return False


def wait_for(condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(1)


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    return Copy(tmp_path_factory.mktemp("copy"))


def test_a_run_without_an_instance_is_refused(copy):
    failed = copy.job("archive_job", check=False, DAGSTER_HOME=None)
    assert failed.returncode != 0
    assert f"export DAGSTER_HOME={copy.root / 'dagster_home'}" in failed.stdout + failed.stderr
    assert not (copy.root / "data" / "raw").exists()


def test_a_profile_given_in_run_config_is_recorded_for_dvc(copy, tmp_path):
    copy.change("profile: smoke", "profile: quick")
    config = tmp_path / "smoke.yaml"
    config.write_text("resources: {pipeline: {config: {profile: smoke}}}")
    copy.job("archive_job", "-c", str(config))
    assert "profile: smoke" in (copy.root / "params.yaml").read_text()
    assert UP_TO_DATE in copy.dvc("status", "archive")


def test_under_dvc_another_profile_is_refused(copy, tmp_path):
    config = tmp_path / "quick.yaml"
    config.write_text("resources: {pipeline: {config: {profile: quick}}}")
    failed = copy.job("archive_job", "-c", str(config), check=False, DVC_STAGE="archive")
    assert failed.returncode != 0
    assert "use `dvc exp run -S profile=quick`" in failed.stdout + failed.stderr


def test_a_failing_check_blocks_and_is_not_versioned(copy):
    """An archive with fewer images than the settings say stops at the table; DVC does not record it."""
    copy.job("archive_job")
    copy.change("train_per_class: 20", "train_per_class: 21")
    failed = copy.job("table_job", check=False)
    copy.change("train_per_class: 21", "train_per_class: 20")
    assert failed.returncode != 0
    assert "counts" in failed.stdout + failed.stderr
    assert "table:" not in (copy.root / "dvc.lock").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("report", "cnn9"), "there is no report of 'cnn9' yet"),
        (("profile", "smok"), "no profile 'smok' (did you mean 'smoke'?)"),
        (("run", "--profile", "x"), "no profile 'x'"),
        (
            ("run", "--profile", "smoke", "--model", "cnn"),
            "no recipe or group 'cnn' (did you mean 'cnn9'?)",
        ),
    ],
)
def test_the_command_line_answers_mistakes_in_one_message(copy, arguments, message):
    failed = copy.run(sys.executable, "-m", "cifar_pipeline", *arguments, check=False)
    assert failed.returncode == 1
    assert message in failed.stderr
    assert "Traceback" not in failed.stderr
