"""The product as its users run it: real command lines, in a fresh copy of the checkout.

What needs no process of its own is tested in `tests/defs`.
"""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress

import dagster as dg
import pyarrow.parquet as pq
import pytest
import requests
import yaml
from filelock import FileLock
from ray.cluster_utils import Cluster

from benchmarks.explanation import drops
from cifar_pipeline.defs.runs import worker_of
from cifar_pipeline.inputs.batches import load_images
from cifar_pipeline.paths import Workspace
from cifar_pipeline.serving.exported import ExportedModel
from tests.postgres import postgres
from tests.serving.hostile import picture
from tests.workspaces import DVC, JOB, Copy, change_yaml, free_port

UP_TO_DATE = "Data and pipelines are up to date."
UNREACHABLE = "http://127.0.0.1:9/cifar-100-python.tar.gz"
CIFAR = (sys.executable, "-m", "cifar_pipeline")
NOISE = re.compile(
    r"DEBUG|INFO|WARNING|oneDNN|absl|cpu_feature|CUDA|supersede|Traceback|Error Report", re.I
)
DATA = (
    "data/raw/cifar-100-python.tar.gz",
    "data/table/cifar100.parquet",
    "data/splits/splits.parquet",
)
AFTER_MODEL = ("predictions", "report", "export")
COMPARED = (*DATA, "data/predictions/cnn9.parquet")
"""The same bytes behind every door."""


def noise(said):
    """The lines of a command's output that a person at a terminal need not see."""
    lines = [line for line in said.splitlines() if not line.startswith("> ")]  # DVC's commands
    return [line for line in lines if NOISE.search(line)]


def locked(copy):
    """The stages of dvc.lock."""
    return yaml.safe_load((copy.root / "dvc.lock").read_text())["stages"]


def outputs(copy):
    """md5 of every output in dvc.lock."""
    return {out["path"]: out["md5"] for stage in locked(copy).values() for out in stage["outs"]}


def weights(copy):
    return (copy.root / "data/models/cnn9/model.keras").read_bytes()


def epochs(copy, number):
    """Change the recipe of cnn9 under `smoke`."""
    path = copy.root / "recipes/cnn9.yaml"
    text = path.read_text()
    start = text.index("\nsmoke:")
    changed = re.sub(r"epochs: \d+", f"epochs: {number}", text[start:], count=1)
    path.write_text(text[:start] + changed)


@contextmanager
def running(copy, *command, **environment):
    """A command whose output can be read while it runs; its process group dies with the block."""
    with subprocess.Popen(
        command,
        cwd=copy.root,
        env=copy.environment | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def newcomers(tmp_path_factory):
    """What `cifar run` does on a machine without internet; what it said, and what it made."""
    copy = Copy(tmp_path_factory.mktemp("a neẅ folder"), models=["cnn9"], profile="quick")
    copy.change("https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz", UNREACHABLE)
    done = copy.run(*CIFAR, "run")
    return copy, done.stdout + done.stderr, outputs(copy)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.xdist_group("doors")
class TestDoors:
    """In order: each test leaves the copy as the next one finds it."""

    def test_the_first_run_says_what_it_does_and_ends_with_the_figures(self, newcomers):
        copy, said, _ = newcomers
        assert (
            f"cannot be reached at {UNREACHABLE}, so this runs the profile `smoke` on generated "
            "images" in said
        )
        assert noise(said) == []
        for line in (
            "profile smoke, running: archive, table, splits, test_subsets, model/cnn9, ",
            "table: started",
            "model/cnn9: epoch 1/6 done",
            "leaderboard: done in ",
            "done in ",
        ):
            assert line in said
        assert re.search(r"cnn9 +top-1 +\d+\.\d+% \(\d+\.\d+ to \d+\.\d+\)", said)
        shown = copy.run(*CIFAR, "report", "cnn9").stdout
        assert shown.splitlines()[0] in said
        assert "calibration error" in shown
        for page in copy.root.glob("data/reports/*/index.html"):
            assert "Generated images, not CIFAR-100" in page.read_text(encoding="utf-8")
        metrics = json.loads((copy.root / "data/reports/cnn9/metrics.json").read_text())
        assert metrics["top1"] > 0.5  # the generated classes can be learned, in seconds

    def test_what_the_model_looked_at_is_what_it_decides_by(self, newcomers):
        """An independent check: without the marked tenth of an image it is less sure than without
        as large a part elsewhere."""
        home = Workspace(newcomers[0].root)
        images = load_images(home.table, home.splits, "validation").pixels
        lost = drops(ExportedModel(home.export("cnn9") / "model.onnx"), images)
        hottest, elsewhere, *_ = (drop.mean() for drop in lost.values())
        assert hottest > 1.2 * elsewhere

    def test_a_model_is_ready_to_be_published(self, newcomers):
        copy = newcomers[0]
        copy.run(*CIFAR, "publish", "cnn9", "--dry-run", str(copy.root / "published"))
        assert (copy.root / "published" / "model.onnx").is_file()
        shutil.rmtree(copy.root / "published")

    def test_the_second_run_does_nothing_in_seconds(self, newcomers):
        copy, said, made = newcomers
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        again = copy.run(*CIFAR, "run").stdout
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert after.ru_utime - before.ru_utime < 15  # of the CPU's, with DVC's
        first, *figures = again.splitlines()
        made_before = ", ".join(f"{kind}/cnn9" for kind in ("model", *AFTER_MODEL))
        skipped = f"archive, table, splits, test_subsets, {made_before}"
        assert first == f"up to date, skipped: {skipped}, leaderboard, ledger"
        assert "\n".join(figures) in said
        assert outputs(copy) == made

    def test_dvc_agrees(self, newcomers):
        copy, *_ = newcomers
        assert UP_TO_DATE in copy.dvc("status")
        assert "Running stage" not in copy.dvc("repro")

    def test_metrics_and_plots_are_dvcs(self, newcomers):
        copy, *_ = newcomers
        shown = json.loads(copy.dvc("metrics", "show", "--json"))
        assert "data/leaderboard/metrics.json" in json.dumps(shown)
        copy.dvc("plots", "show", "--out", "shown")
        assert "history" in (copy.root / "shown" / "index.html").read_text(encoding="utf-8")
        shutil.rmtree(copy.root / "shown")
        copy.commit("dvc.lock")

    def test_everything_comes_back_from_the_remote(self, newcomers):
        copy, _, made = newcomers
        copy.dvc("push")
        shutil.rmtree(copy.root / "data")
        shutil.rmtree(copy.root / ".dvc" / "cache")
        copy.dvc("pull")
        assert UP_TO_DATE in copy.dvc("status")
        assert outputs(copy) == made
        done = copy.job("splits_job")  # reads the table, and its checks block
        assert noise(done.stdout + done.stderr) == []

    def test_a_killed_training_resumes_and_ends_in_the_same_weights(self, newcomers):
        """The recipe is edited while it resumes, and that changes neither it nor what is recorded
        of it."""
        copy, *_ = newcomers
        before = weights(copy)
        plan = {dep["path"]: dep["md5"] for dep in locked(copy)["model@cnn9"]["deps"]}
        with running(copy, *JOB, "model_cnn9_job") as killed:
            assert any(line.startswith("model/cnn9: epoch 3/6 done") for line in killed.stdout)
            killed.kill()  # the run alone, and not the process of its step
            wait_for(lambda: latest_run(copy).status.name == "FAILURE", 60)
            with FileLock(copy.root / "data/locks/model@cnn9.lock", timeout=60):
                pass  # its step has ended with it
            assert free_slots(copy) == 1
        with running(copy, *JOB, "model_cnn9_job") as resumed:
            said = []
            for line in resumed.stdout:
                said.append(line)
                if line.startswith("model/cnn9: epoch 5/6 done"):
                    epochs(copy, 2)
            assert resumed.wait() == 0, "".join(said)
        text = "".join(said)
        assert re.search(r"resuming after epoch [2345]/6", text)
        assert "epoch 1/6 done" not in text
        assert not (copy.root / "data/checkpoints/cnn9/smoke").exists()
        assert weights(copy) == before
        provenance = json.loads((copy.root / "data/models/cnn9/provenance.json").read_text())
        assert provenance["recipe"]["epochs"] == 6
        assert {dep["path"]: dep["md5"] for dep in locked(copy)["model@cnn9"]["deps"]} == plan

    def test_the_edit_and_nothing_else_is_what_runs_next(self, newcomers):
        """The retraining changed the seconds, which the report shows, and not the weights."""
        copy, *_ = newcomers
        lines = copy.run(*CIFAR, "status").stdout.splitlines()
        reasons = dict(line.split(maxsplit=1) for line in lines)
        assert reasons["model/cnn9"] == "settings changed: recipe.epochs"
        assert "predictions/cnn9" not in reasons
        stale = re.findall(r"^(\S+):$", copy.dvc("status"), flags=re.MULTILINE)
        assert set(stale) == {"model@cnn9", "report@cnn9", "export@cnn9"}
        skipped, running, *_ = copy.run(*CIFAR, "run").stdout.splitlines()
        assert skipped == "up to date, skipped: archive, table, splits, test_subsets"
        made = ", ".join(f"{kind}/cnn9" for kind in ("model", *AFTER_MODEL))
        assert running == f"profile smoke, running: {made}, leaderboard, ledger"
        assert UP_TO_DATE in copy.dvc("status")

    def test_dvc_shows_what_the_change_made_of_the_figures(self, newcomers):
        copy, *_ = newcomers
        changes = json.loads(copy.dvc("metrics", "diff", "--json", "HEAD"))
        change = changes["data/leaderboard/metrics.json"]["nll.cnn9"]
        assert change["diff"] == pytest.approx(change["new"] - change["old"])
        assert change["diff"] > 0
        copy.dvc("plots", "diff", "HEAD", "--out", "shown")
        page = (copy.root / "shown" / "index.html").read_text(encoding="utf-8")
        assert "cnn9: superclasses" in page
        assert "cnn9: training" in page
        shutil.rmtree(copy.root / "shown")

    def test_a_failed_run_says_why_and_leaves_the_settings_as_they_were(self, newcomers):
        copy, *_ = newcomers
        copy.change("smoke: {default: 0.0, cnn9: 0.05}", "smoke: {default: 0.0, cnn9: 1.0}")
        copy.change("profile: smoke", "profile: quick")
        before = (copy.root / "params.yaml").read_bytes()
        failed = copy.run(*CIFAR, "run", "--profile", "smoke", check=False)
        assert failed.returncode == 1
        assert re.search(r"leaderboard: failed: 'cnn9' is refused: .* demands ", failed.stdout)
        assert "the run failed; the whole log is in " in failed.stderr
        assert noise(failed.stdout + failed.stderr) == []
        assert (copy.root / "params.yaml").read_bytes() == before
        copy.change("profile: quick", "profile: smoke")
        copy.change("smoke: {default: 0.0, cnn9: 1.0}", "smoke: {default: 0.0, cnn9: 0.05}")

    @pytest.mark.nightly
    @pytest.mark.postgres
    def test_a_training_whose_node_leaves_the_ray_cluster_goes_on_on_another_one(self, newcomers):
        """The cluster is a head and two workers, of which one offers a GPU. Dagster keeps the runs
        in PostgreSQL, as `cluster.md` says."""
        copy, *_ = newcomers
        epochs(copy, 20)
        page = (copy.root / "docs/how-to/cluster.md").read_text(encoding="utf-8")
        [storage] = re.findall(r"```yaml\n(storage:\n.*?)```", page, flags=re.DOTALL)
        instance = copy.root / "dagster_home/dagster.yaml"
        before = instance.read_text(encoding="utf-8")
        instance.write_text(f"{before}\n{storage}", encoding="utf-8")
        small = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
        nodes = Cluster(
            initialize_head=True,
            head_node_args={**small, "include_dashboard": True, "dashboard_port": free_port()},
        )
        nodes.add_node(**small)
        first = nodes.add_node(**small, num_gpus=1)
        ray = {"CIFAR_RAY_ADDRESS": f"http://{nodes.head_node.address_info['webui_url']}"}
        try:
            with postgres() as server:
                ray["CIFAR_POSTGRES_URL"] = server.new()
                copy.job("splits_job", **ray)  # on the head
                with running(copy, *JOB, "model_cnn9_job", **ray) as run:
                    said = []
                    for line in run.stdout:
                        said.append(line)
                        if line.startswith("model/cnn9: epoch 2/20 done"):
                            nodes.remove_node(first, allow_graceful=False)
                            nodes.add_node(**small, num_gpus=1)
                    assert run.wait() == 0, "".join(said)
        finally:
            nodes.shutdown()
            instance.write_text(before, encoding="utf-8")
        text = "".join(said)
        assert "model/cnn9: its job on the cluster is gone, so it is submitted again" in text
        assert re.search(r"resuming after epoch \d+/20", text)
        assert text.count("epoch 1/20 done") == 1
        provenance = json.loads((copy.root / "data/models/cnn9/provenance.json").read_text())
        assert provenance["recipe"]["epochs"] == 20

    def test_dvc_repro_makes_the_same(self, newcomers):
        copy, _, made = newcomers
        epochs(copy, 6)
        done = copy.run(DVC, "repro", "--force", "--no-run-cache", "predictions@cnn9")
        ran = re.findall(r"Running stage '(.+?)'", done.stdout)
        assert sorted(ran) == [
            *("archive", "model@cnn9", "plan", "predictions@cnn9", "splits", "table")
        ]
        assert noise(done.stdout + done.stderr) == []
        found = outputs(copy)
        assert {path: found[path] for path in COMPARED} == {path: made[path] for path in COMPARED}
        rest = re.findall(r"Running stage '(.+?)'", copy.dvc("repro"))
        assert sorted(rest) == ["export@cnn9", "leaderboard", "ledger", "report@cnn9"]
        assert UP_TO_DATE in copy.dvc("status")

    def test_photographs_are_predicted_behind_every_door(self, newcomers):
        copy, *_ = newcomers
        before = {name: (copy.root / name).read_bytes() for name in ("params.yaml", "dvc.lock")}
        folder = copy.root / "data/photographs/mine"
        folder.mkdir(parents=True)
        picture().save(folder / "a.jpg")
        (folder / "broken.png").write_bytes(b"nothing")
        copy.change("photographs: []", "photographs: [mine]")
        assert "running: photo_predictions/mine\n" in copy.run(*CIFAR, "run").stdout
        table = copy.root / "data/photo_predictions/mine.parquet"
        readable, broken = pq.read_table(table).to_pylist()
        assert (readable["file"], readable["model"], len(readable["top"])) == ("a.jpg", "cnn9", 5)
        assert "no image" in broken["error"]
        assert UP_TO_DATE in copy.dvc("status")
        (folder / "broken.png").unlink()
        assert "data/photographs/mine is modified" in copy.run(*CIFAR, "status").stdout
        copy.dvc("repro")
        assert pq.read_table(table).num_rows == 1
        for name, content in before.items():
            (copy.root / name).write_bytes(content)
        assert "everything is up to date" in copy.run(*CIFAR, "status").stdout

    def test_a_name_never_reaches_a_shell(self, newcomers):
        """DVC puts names from params.yaml into commands; its first stage validates them."""
        copy, *_ = newcomers
        name = "$(touch gone_through)"
        params = copy.root / "params.yaml"
        before = params.read_bytes()
        try:
            for key, stage in (("models", "model"), ("searches", "search")):
                change_yaml(params, lambda c, k=key: c.update({k: [name]}))
                for arguments in ((), (f"{stage}@{name}",), ("--single-item", f"{stage}@{name}")):
                    failed = copy.run(DVC, "repro", *arguments, check=False)
                    assert failed.returncode != 0
                    said = failed.stdout + failed.stderr
                    if "--single-item" in arguments:  # no plan was ever made for that name
                        assert f"data/plan/{stage}/{name}.json" in said
                    else:
                        assert f"{key}.0: '{name}' is not a name" in said
                    assert not (copy.root / "gone_through").exists()
                params.write_bytes(before)
        finally:
            params.write_bytes(before)

    @pytest.mark.nightly
    def test_a_search_is_an_asset_and_its_winner_a_recipe(self, newcomers):
        copy, *_ = newcomers
        before = (copy.root / "params.yaml").read_bytes()
        said = copy.run(*CIFAR, "search", "custom_search").stdout
        assert len(re.findall(r"trial \d of the (draws|grid) complete: architecture", said)) == 4
        assert (copy.root / "params.yaml").read_bytes() == before
        assert (copy.root / "data/searches/custom_search/index.html").is_file()
        refused = copy.run(*CIFAR, "adopt", "custom_search", "found", check=False)
        assert refused.returncode == 1
        assert "was on generated images, which say nothing" in refused.stderr
        provenance = copy.root / "data/searches/custom_search/provenance.json"
        found = json.loads(provenance.read_text())
        provenance.write_text(json.dumps(found | {"generated": False}))
        copy.run(*CIFAR, "adopt", "custom_search", "found")
        assert f"Run {found['run']['id']}" in (copy.root / "recipes/found.yaml").read_text()
        copy.run(*CIFAR, "adopt", "custom_search", "found_final", "--final")
        final = yaml.safe_load((copy.root / "recipes/found_final.yaml").read_text())["paper"]
        assert (final["fit_on"], final["epochs"]) == ("train_and_validation", found["final_epochs"])
        assert "no report of 'found' yet" in copy.run(*CIFAR, "report", "found", check=False).stderr
        assert (copy.root / "params.yaml").read_bytes() == before

    def test_the_ui_runs_the_same_and_shows_every_doors_runs(self, newcomers):
        copy, _, made = newcomers
        copy.change("profile: smoke", "profile: quick")
        with ui(copy) as asked:
            refused = launch(asked, "archive_job", profile="smok")
            assert refused["__typename"] == "RunConfigValidationInvalid"
            assert "smok" in refused["errors"][0]["message"]
            for job in ("archive_job", "table_job", "splits_job"):
                run = launch(asked, job, profile="smoke")
                assert ended(asked, run) == "SUCCESS"
            assert "profile: smoke" in (copy.root / "params.yaml").read_text()
            found = outputs(copy)
            assert {p: found[p] for p in DATA} == {p: made[p] for p in DATA}
            shown = asked(RUNS)
            listed = shown["runsOrError"]["results"]
            assert len({run["id"] for run in listed}) == len(listed)
            assert {run["repositoryOrigin"]["repositoryLocationName"] for run in listed} == {
                "cifar_pipeline"
            }
            in_timeline = [tags_of(run) for run in listed]
            assert {tags["door"] for tags in in_timeline} == {"cifar", "dagster", "dvc", "ui"}
            assert {tags["profile"] for tags in in_timeline} == {"smoke"}
            on_page = [tags_of(run) for run in shown["pipelineOrError"]["runs"]]
            assert {tags["door"] for tags in on_page} == {"cifar"}
            launch(asked, "model_cnn9_job", profile="smoke")
            checkpoints = copy.root / "data/checkpoints/cnn9/smoke"
            wait_for(lambda: list(checkpoints.glob("epoch-*")), 120)
            killed = latest_run(copy)
            os.kill(int(worker_of(killed).split(":")[1]), signal.SIGKILL)
            wait_for(lambda: latest_run(copy).run_id != killed.run_id, 60)
            assert latest_run(copy).tags["dagster/retry_number"] == "1"
            copy.change("train_per_class: 20", "train_per_class: 21")
            run = launch(asked, "table_job", profile="smoke")
            assert ended(asked, run) == "FAILURE"
            events = asked(EVENTS, runId=run["run"]["runId"])["logsForRun"]["events"]
            (failure,) = [e["error"]["message"] for e in events if "error" in e]
            assert re.search(r"counts: There are as many .*Found .*expected ", failure)
            failed = {
                e["evaluation"]["checkName"]: e["evaluation"]["metadataEntries"]
                for e in events
                if "evaluation" in e and not e["evaluation"]["success"]
            }
            assert set(failed) == {"counts", "class_balance"}
            shown = {entry["label"] for entry in failed["counts"]}
            assert {"found", "expected", "repair"} <= shown
        copy.change("train_per_class: 21", "train_per_class: 20")


RUNS = """{
  runsOrError(filter: {tags: [{
    key: ".dagster/repository", value: "__repository__@cifar_pipeline"}]}) {
    ... on Runs { results { id tags { key value } repositoryOrigin { repositoryLocationName } } } }
  pipelineOrError(params: {repositoryLocationName: "cifar_pipeline",
    repositoryName: "__repository__", pipelineName: "pipeline"}) {
    ... on Pipeline { runs { tags { key value } } } }
}"""
"""As the Runs timeline and the job's page ask."""
LAUNCH = """mutation($params: ExecutionParams!) { launchRun(executionParams: $params) {
  __typename
  ... on LaunchRunSuccess { run { runId } }
  ... on RunConfigValidationInvalid { errors { message } }
  ... on PythonError { message }
} }"""
STATUS = "query($runId: ID!) { runOrError(runId: $runId) { ... on Run { status } } }"
EVENTS = """query($runId: ID!) { logsForRun(runId: $runId) { ... on EventConnection { events {
  ... on ExecutionStepFailureEvent { error { message } }
  ... on AssetCheckEvaluationEvent {
    evaluation { checkName success metadataEntries { label } } }
} } } }"""


@contextmanager
def ui(copy):
    """`dagster dev` on the copy; yields what asks its GraphQL."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    where = ("--workspace", "workspace.yaml", "--host", "127.0.0.1", "--port", str(port))
    with (
        (copy.root / "data" / "dev.log").open("w") as log,
        subprocess.Popen(
            [sys.executable, "-m", "dagster", "dev", *where],
            cwd=copy.root,
            env=copy.environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        ) as dev,
    ):
        try:
            wait_for(lambda: answers(address), 180)
            yield lambda query, **variables: ask(address, query, variables)
        finally:
            # A whole group, and not by SIGINT: shells start background jobs, and so all their
            # children, deaf to it.
            os.killpg(dev.pid, signal.SIGKILL)


def answers(address):
    try:
        return requests.get(f"{address}/server_info", timeout=5).status_code == 200
    except requests.ConnectionError:
        return False


def ask(address, query, variables):
    done = requests.post(
        f"{address}/graphql", json={"query": query, "variables": variables}, timeout=120
    )
    content = done.json()
    assert "errors" not in content, content
    return content["data"]


def launch(asked, job, profile):
    """What the launchpad's button sends."""
    selector = {
        "repositoryLocationName": "cifar_pipeline",
        "repositoryName": "__repository__",
        "pipelineName": job,
    }
    config = {"resources": {"pipeline": {"config": {"profile": profile}}}}
    return asked(LAUNCH, params={"selector": selector, "runConfigData": config, "mode": "default"})[
        "launchRun"
    ]


def ended(asked, launched):
    """The status in which a run ends."""
    assert launched["__typename"] == "LaunchRunSuccess", launched

    def status():
        return asked(STATUS, runId=launched["run"]["runId"])["runOrError"]["status"]

    wait_for(lambda: status() in {"SUCCESS", "FAILURE", "CANCELED"}, 300)
    return status()


@contextmanager
def instance_of(copy):
    with dg.DagsterInstance.from_config(str(copy.root / "dagster_home")) as instance:
        yield instance


def latest_run(copy):
    with instance_of(copy) as instance:
        return instance.get_runs(limit=1)[0]


def free_slots(copy):
    with instance_of(copy) as instance:
        found = instance.event_log_storage.get_concurrency_info("gpu")
        assert not found.pending_steps
        return found.slot_count - len(found.claimed_slots)


def tags_of(run):
    return {tag["key"]: tag["value"] for tag in run["tags"]}


def wait_for(condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(1)


def test_a_run_without_an_instance_is_refused(tmp_path):
    copy = Copy(tmp_path, models=["cnn9"])
    failed = copy.job("archive_job", check=False, DAGSTER_HOME=None)
    assert failed.returncode != 0
    assert f"export DAGSTER_HOME={copy.root / 'dagster_home'}" in failed.stdout + failed.stderr
    assert not (copy.root / "data" / "raw").exists()


def test_another_profile_is_refused_under_dvc_and_for_data_that_is_not_its_own(tmp_path):
    copy = Copy(tmp_path, models=["cnn9"])
    config = tmp_path / "quick.yaml"
    config.write_text("resources: {pipeline: {config: {profile: quick}}}")
    failed = copy.job("archive_job", "-c", str(config), check=False, DVC_STAGE="archive")
    assert failed.returncode != 0
    assert "use `dvc exp run -S profile=quick`" in failed.stdout + failed.stderr
    before = (copy.root / "params.yaml").read_bytes()
    failed = copy.job("table_job", "-c", str(config), check=False)
    assert failed.returncode != 0
    assert "whose data is `cifar100`, and data/ holds `generated`" in failed.stdout
    assert (copy.root / "params.yaml").read_bytes() == before
