"""DVC as it is used: the real command, in small repositories of its own."""

import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from cifar_pipeline.errors import PipelineError
from cifar_pipeline.graph.stages import Stage
from cifar_pipeline.graph.versioning import (
    cached_text,
    commit_stages,
    recorded_outputs,
    recording,
    stale_stages,
    verified_inputs,
)
from cifar_pipeline.paths import Workspace
from tests.workspaces import DVC

HOLD = "from dvc.repo import Repo\nwith Repo('.').lock: print('held', flush=True); input()"


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("CIFAR_DVC", DVC)
    root = tmp_path / "a folder with spaces"
    root.mkdir()
    subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
    subprocess.run([DVC, "init", "--quiet"], cwd=root, check=True)
    (root / "dvc.yaml").write_text(
        "stages:\n"
        "  made: {cmd: 'true', outs: [made]}\n"
        "  used: {cmd: 'true', deps: [made], outs: [used]}\n"
    )
    for name in ("made", "used"):
        (root / name).write_text(name)
    return Workspace(root)


MADE = Stage(("made",), ("made",))
USED = Stage(("used",), ("used",), (("made",),), ("made",))


def test_what_was_committed_is_recorded_and_up_to_date(home):
    assert set(stale_stages(home)) == {"made", "used"}
    commit_stages(home, "made", "used")
    assert stale_stages(home) == {}
    assert set(recorded_outputs(home)) == {"made", "used"}
    assert verified_inputs(home, USED, [MADE]) == {"made": recorded_outputs(home)["made"]}


def test_what_was_damaged_in_the_cache_is_recorded_anew(home):
    """The same outputs made again: DVC alone would leave the damage for the next checkout."""
    (home.root / "made").unlink()
    (home.root / "made").mkdir()
    (home.root / "made" / "inside").write_text("inside")
    commit_stages(home, "made", "used")
    objects = [path for path in (home.root / ".dvc/cache/files").rglob("*") if path.is_file()]
    assert len(objects) == 3  # the folder's listing, the file in it, and `used`
    for path in objects:
        path.chmod(0o644)
        path.write_text("damaged")
        assert cached_text(home, path.parent.name + path.name) is None
    commit_stages(home, "made", "used")
    shutil.rmtree(home.root / "made")
    (home.root / "used").unlink()
    subprocess.run([DVC, "checkout", "--quiet"], cwd=home.root, check=True)
    assert (home.root / "made" / "inside").read_text() == "inside"
    assert (home.root / "used").read_text() == "used"


def test_a_failing_dvc_says_why(home):
    with pytest.raises(PipelineError, match=r"`dvc commit --force mad` failed: .*'mad'"):
        commit_stages(home, "mad")
    (home.root / "dvc.yaml").write_text("stages: [")
    with pytest.raises(PipelineError, match=r"failed: .*dvc\.yaml"):
        commit_stages(home, "made")


def test_what_the_machine_refuses_to_dvc_comes_with_its_repair(home):
    place = home.root / ".dvc" / "cache"
    place.mkdir()
    (place / "files").write_text("where DVC needs a folder")
    with pytest.raises(PipelineError, match=r"Not a directory.*; a part of the path is a file"):
        commit_stages(home, "made")


def test_a_folder_without_git_is_said_in_words(home):
    subprocess.run(["rm", "-r", ".git"], cwd=home.root, check=True)
    with pytest.raises(PipelineError, match=r"failed: .*git.*; `make setup` lets DVC work without"):
        commit_stages(home, "made")


@pytest.mark.slow
def test_a_lock_that_somebody_holds_is_waited_for(home, capsys):
    python = Path(DVC).with_name("python")
    with subprocess.Popen(
        [python, "-c", HOLD],
        cwd=home.root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(PipelineError, match=r"failed: .*Unable to acquire lock"):
            commit_stages(home, "made", wait_s=0)
        assert recorded_outputs(home) == {}
        release = subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(7); print()"], stdout=holder.stdin
        )
        commit_stages(home, "made")
        release.wait()
    assert "another DVC holds its lock; waiting" in capsys.readouterr().out
    assert "made" in recorded_outputs(home)


def test_an_input_that_was_changed_is_refused(home):
    commit_stages(home, "made", "used")
    (home.root / "made").write_text("mado")  # one flipped bit
    with pytest.raises(PipelineError, match="changed since `made` made it") as error:
        verified_inputs(home, USED, [MADE])
    repair = re.search(r"Run `dvc (.*?)`", str(error.value)).group(1)
    subprocess.run([DVC, *repair.split()], cwd=home.root, check=True)
    assert (home.root / "made").read_text() == "made"


def test_an_input_that_nobody_recorded_is_refused(home):
    with pytest.raises(PipelineError, match=r"is not recorded in dvc\.lock; materialize `made`"):
        verified_inputs(home, USED, [MADE])
    (home.root / "made").unlink()
    with pytest.raises(PipelineError, match=r"is missing; materialize `made` again"):
        verified_inputs(home, USED, [MADE])


def test_what_no_stage_makes_is_looked_at_too(home):
    commit_stages(home, "made")
    own = replace(USED, inputs=("made", "own"))
    assert set(verified_inputs(home, own, [MADE])) == {"made"}
    (home.root / "own").write_text("of the user")
    before = verified_inputs(home, own, [MADE])
    (home.root / "own").write_text("of the user, changed")
    assert {"made", "own"} == set(before)
    assert verified_inputs(home, own, [MADE]) != before


def test_outputs_that_a_stage_does_not_read_are_not_looked_at(home):
    other = Stage(("other",), ("other",))
    commit_stages(home, "made")
    assert set(verified_inputs(home, USED, [MADE, other])) == {"made"}


def test_a_stage_that_takes_what_is_there_needs_nothing_else(home):
    commit_stages(home, "made")
    waiting, page = Stage(("waiting",), ("waiting",)), replace(USED, takes_what_is_there=True)
    page = replace(page, inputs=("made", "waiting"))
    assert set(verified_inputs(home, page, [MADE, waiting])) == {"made"}
    (home.root / "made").write_text("mado")
    with pytest.raises(PipelineError, match="was changed since"):
        verified_inputs(home, page, [MADE, waiting])


def test_a_stage_that_another_dvc_runs_is_waited_for(home):
    """`dvc repro` of something else must not fail what took an hour to train."""
    text = (home.root / "dvc.yaml").read_text()
    slow = (
        "echo x > made; touch running; timeout 60 bash -c 'until test -e end; do sleep 0.1; done'"
    )
    (home.root / "dvc.yaml").write_text(text.replace("'true'", f'"{slow}"', 1))
    with subprocess.Popen([DVC, "repro", "made"], cwd=home.root, stdout=subprocess.DEVNULL) as dvc:
        while not (home.root / "running").exists():
            assert dvc.poll() is None
            time.sleep(0.1)
        with pytest.raises(PipelineError, match=r"failed: .*busy"):
            commit_stages(home, "made")
        ending = subprocess.Popen(["bash", "-c", "sleep 3; touch end"], cwd=home.root)
        commit_stages(home, "made", check=lambda: None)
        ending.wait()
    assert set(recorded_outputs(home)) == {"made"}


def test_what_changed_while_a_lock_was_waited_for_is_not_recorded(home):
    def check():
        raise PipelineError("changed")

    with pytest.raises(PipelineError, match="changed"):
        commit_stages(home, "made", check=check)
    assert recorded_outputs(home) == {}


def test_nobody_writes_a_plan_while_a_step_records(home):
    """The order of things: a step that is recording, and a command that wants to plan."""
    program = (
        "import sys; from pathlib import Path; from cifar_pipeline.paths import Workspace\n"
        "from cifar_pipeline.graph.versioning import recording\n"
        "with recording(Workspace(Path(sys.argv[1]))): print('in', flush=True)\n"
    )
    with recording(home):
        other = subprocess.Popen(
            [sys.executable, "-c", program, str(home.root)], stdout=subprocess.PIPE, text=True
        )
        commit_stages(home, "made")  # takes the same lock again
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(2)
    assert other.communicate(timeout=60)[0] == "in\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stages:\n<<<<<<< HEAD\n=======\n>>>>>>> other\n", r"is not YAML at line \d; resolve"),
        ("", "does not list stages; resolve"),
        ("stages: [made]\n", "does not list stages; resolve"),
    ],
)
def test_a_damaged_lock_file_is_said_in_words(home, text, message):
    (home.root / "dvc.lock").write_text(text)
    with pytest.raises(PipelineError, match=rf"dvc\.lock {message}.*git checkout dvc\.lock"):
        recorded_outputs(home)


def test_a_dvc_that_is_not_there_is_said_in_words(home, monkeypatch):
    monkeypatch.setenv("CIFAR_DVC", str(home.root / "none"))
    with pytest.raises(PipelineError, match=r"DVC cannot be run as .*none.*CIFAR_DVC"):
        stale_stages(home)
