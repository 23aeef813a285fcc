"""Faults at every place, and what the next command makes of them.

python -m benchmarks.faults --work FOLDER > benchmarks/results/faults.md

In a copy of the checkout with generated images and one small model, where everything was made, each
fault is brought about and a command typed. A command that fails must say why in a sentence, without
a stack trace, and leave every artefact as it was. When the fault has gone, or at once where it
cannot go by itself, a second command is typed. In the end every artefact must be what an
undisturbed run makes: the same bytes, but for files that two undisturbed runs make differently,
which must be there and be those that dvc.lock records. Every case is kept in FOLDER, so that the
campaign goes on from there when it was itself interrupted. Needs root on Linux, to mount small
disks.
"""

import argparse
import dataclasses
import json
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.environment import describe
from benchmarks.faulty import (
    EPOCHS,
    MODEL,
    Fault,
    Faulty,
    cached,
    damaged,
    empty,
    flip,
    forbidden,
    full,
    served,
)
from cifar_pipeline.artifacts import file_digest, remove
from cifar_pipeline.graph.stages import Key, Stage, build_stages
from cifar_pipeline.graph.versioning import recorded_stages
from cifar_pipeline.provenance import code_revision
from cifar_pipeline.settings.reading import load_params
from tests.workspaces import change_yaml

Words = tuple[str, ...]
Change = Callable[[dict[str, Any]], object]
RUN: Words = ("cifar", "run")
CASES = "cases.jsonl"
READERS: dict[str, Key] = {
    "archive": ("table",),
    "table": ("splits",),
    "splits": ("predictions", MODEL),
    "test_subsets": ("report", MODEL),
    "model": ("predictions", MODEL),
    "predictions": ("report", MODEL),
    "report": ("leaderboard",),
}
"""A stage that reads what the stages of this name make."""


@dataclass(frozen=True)
class Case:
    """A fault, and what the user types."""

    fault: str
    place: str
    inject: Fault
    command: Words
    """typed while the fault is there"""
    then: Words = RUN
    """typed next, if the first one failed"""
    obeying: bool = False
    """whether permissions bind the first command"""


@dataclass(frozen=True)
class Found:
    """What became of a case."""

    fault: str
    place: str
    revision: str
    command: str
    failed: bool
    said: str
    """the sentence of the failure"""
    traced: bool
    """whether a stack trace was shown"""
    changed: str
    """what a command that failed changed"""
    difference: str
    """between what is there in the end and what an undisturbed run makes"""
    seconds: float

    @property
    def well(self) -> bool:
        """Nothing lost, nothing stuck, nothing to repair by hand; and said in words."""
        return not (self.traced or self.changed or self.difference) and bool(
            self.said or not self.failed
        )


def job(stage: Stage) -> Words:
    return "job", stage.job


def cases(faulty: Faulty) -> Iterator[Case]:
    """Every case, in an order in which each kind comes early."""
    stages = build_stages(load_params(faulty.home.params))
    recorded = recorded_stages(faulty.home)
    made = {key: stage for key, stage in stages.items() if stage.name in recorded}
    yield from _damaged(faulty, made)
    yield from _cached(made)
    yield from _checkpoints(made["model", MODEL])
    yield from _disks(faulty, made)
    yield from _permissions(made)
    yield from _at_once(made)
    yield from _changed_meanwhile(made["model", MODEL])
    yield from _downloads(made["archive",])
    yield from _versions()


def _damaged(faulty: Faulty, stages: dict[Key, Stage]) -> Iterator[Case]:
    for key, stage in stages.items():
        files = [path for path in faulty.undisturbed if path.startswith(stage.outputs)]
        told = [path for path in files if not path.endswith(".png")]
        reader = READERS.get(key[0])
        for path in told:
            fault = partial(damaged, flip, path)
            if reader:
                output = next(each for each in stage.outputs if path.startswith(each))
                then = ("dvc", "checkout", "--force", output)
                yield Case("a flipped bit", path, fault, job(stages[reader]), then)
            else:
                yield Case("a flipped bit", path, fault, ("dvc", "repro"))
            yield Case("an emptied file", path, partial(damaged, empty, path), ("dvc", "repro"))
        yield Case("deleted", stage.name, partial(_deleted, stage.outputs), RUN)
    yield Case("deleted", "everything", partial(_deleted, ("data",)), RUN)


@contextmanager
def _deleted(outputs: Sequence[str], faulty: Faulty) -> Iterator[None]:
    for output in outputs:
        remove(faulty.root / output)
    yield


def _cached(stages: dict[Key, Stage]) -> Iterator[Case]:
    fault = "a flipped bit in DVC's cache, and the artefact deleted"
    for stage in stages.values():
        flipped = partial(_flip_cached, stage.outputs)
        for command in (("dvc", "checkout", *stage.outputs), RUN):
            place = f"{stage.name}, `{' '.join(command[:2])}`"
            yield Case(fault, place, flipped, command)


@contextmanager
def _flip_cached(outputs: Sequence[str], faulty: Faulty) -> Iterator[None]:
    for path in {path for output in outputs for path in cached(faulty, output)}:
        flip(path)
        path.chmod(0o444)
    for output in outputs:
        remove(faulty.root / output)
    yield


def _checkpoints(stage: Stage) -> Iterator[Case]:
    newest, oldest, best = "epoch-0002", "epoch-0001", "best-*.weights.h5"
    state, about = "state.npz", "checkpoint.json"
    names = [f"{epoch}/{name}" for epoch in (newest, oldest) for name in (state, about)]
    for how in (flip, empty, remove):
        for name in [*names, best]:
            kind = {flip: "a flipped bit", empty: "emptied", remove: "deleted"}[how]
            yield Case(
                f"a checkpoint's file: {kind}", name, partial(_interrupted, how, name), job(stage)
            )


@contextmanager
def _interrupted(how: Callable[[Path], None], name: str, faulty: Faulty) -> Iterator[None]:
    """A training that was killed after its second epoch, one of whose files is then damaged."""
    place = faulty.home.checkpoints(MODEL, "smoke")
    kept = faulty.root.with_name("checkpoints")
    if not kept.exists():
        with faulty.started("job", f"model_{MODEL}_job") as process:
            while not (place / "epoch-0002" / "checkpoint.json").exists():
                time.sleep(0.01)
            process.kill()
        time.sleep(10)
        assert not (place / f"epoch-{EPOCHS:04}").exists(), "the training was too fast to be killed"
        shutil.copytree(place, kept)
    remove(place)
    shutil.copytree(kept, place)
    chosen = list(place.glob(name))
    assert chosen, f"no checkpoint has {name}"
    for path in chosen:
        how(path)
    yield


def _disks(faulty: Faulty, stages: dict[Key, Stage]) -> Iterator[Case]:
    for stage in stages.values():
        files = [path for path in faulty.undisturbed if path.startswith(stage.outputs)]
        size = sum((faulty.root / path).stat().st_size for path in files)
        for part, free in (("nothing", 0), ("half of it", size // 2)):
            place = f"{stage.name}, with room for {part}"
            yield Case("disk full", place, partial(full, "data", free), job(stage), job(stage))
    leaf = stages["ledger",]
    for folder in (".dvc", "dagster_home"):
        for command in (RUN, job(leaf)):
            fault = partial(_with_work, leaf.outputs, partial(full, folder, 0))
            yield Case("disk full", f"{folder}, `{command[0]}`", fault, command)


@contextmanager
def _with_work(outputs: Sequence[str], fault: Fault, faulty: Faulty) -> Iterator[None]:
    """Something is left to do for a command that makes only what is missing."""
    with _deleted(outputs, faulty), fault(faulty):
        yield


def _permissions(stages: dict[Key, Stage]) -> Iterator[Case]:
    for stage in stages.values():
        output = stage.outputs[0]
        folder = str(Path(output).parent)
        if folder != "data":
            fault = partial(forbidden, folder, 0o222)
            yield Case("may not be written", folder, fault, job(stage), job(stage), obeying=True)
        reader = READERS.get(stage.key[0])
        if reader:
            after = job(stages[reader])
            fault = partial(forbidden, output, 0o444)
            yield Case("may not be read", output, fault, after, after, obeying=True)
    leaf = stages["ledger",]
    whole = (
        "data",
        "data/plan",
        "data/locks",
        ".dvc",
        ".dvc/tmp",
        ".dvc/cache/files/md5",
        "dagster_home",
        "recipes",
    )
    for folder in whole:
        for command in (RUN, job(leaf)):
            fault = partial(_with_work, leaf.outputs, partial(forbidden, folder, 0o222))
            yield Case(
                "may not be written", f"{folder}, `{command[0]}`", fault, command, obeying=True
            )
    for path in ("params.yaml", "dvc.lock", f"recipes/{MODEL}.yaml", "data/plan/ledger.json"):
        for command in (RUN, job(leaf)):
            fault = partial(_with_work, leaf.outputs, partial(forbidden, path, 0o444))
            yield Case("may not be read", f"{path}, `{command[0]}`", fault, command, obeying=True)


def _at_once(stages: dict[Key, Stage]) -> Iterator[Case]:
    model, splits, subsets = (
        job(stages[k]) for k in (("model", MODEL), ("splits",), ("test_subsets",))
    )
    force = (*RUN, "--force")
    repro = ("dvc", "repro", "--force", "--single-item", f"model@{MODEL}")
    pairs = [
        ("the same", model, model),
        ("the same", force, force),
        ("the same", repro, repro),
        ("the same", model, repro),
        ("the same", repro, model),
        ("different parts", splits, subsets),
        ("different parts", model, subsets),
        ("different parts", force, splits),
        ("different parts", model, job(stages["table",])),
        ("different parts", model, RUN),
    ]
    for kind, first, second in pairs:
        place = f"`{' '.join(first)}` and `{' '.join(second)}`"
        yield Case(f"two commands at once: {kind}", place, partial(_beside, first), second)


@contextmanager
def _beside(first: Words, faulty: Faulty) -> Iterator[None]:
    with faulty.started(*first) as process:
        time.sleep(3)
        yield
        process.communicate(timeout=900)


def _changed_meanwhile(stage: Stage) -> Iterator[Case]:
    fault = "settings changed while a run is on"
    changes = {
        "splits.seed": lambda content: content["splits"].update(seed=5),
        "the profile": lambda content: content.update(profile="quick"),
        "the model's name": lambda content: content.update(models=["ladder1"]),
        "a floor": lambda content: content["floors"]["smoke"].update(default=0.01),
    }
    for name, change in changes.items():
        yield Case(fault, name, partial(_edited, "params.yaml", change), job(stage))
    yield Case(fault, "not YAML any more", partial(_edited, "params.yaml", None), job(stage))
    recipe = f"recipes/{MODEL}.yaml"
    yield Case(
        fault,
        "the recipe",
        partial(_edited, recipe, lambda content: content["smoke"].update(batch_size=16)),
        job(stage),
    )


@contextmanager
def _edited(name: str, change: Change | None, faulty: Faulty) -> Iterator[None]:
    """Edit a file once the training has begun; the edit is taken back with the block."""
    path, ended = faulty.root / name, threading.Event()
    before = path.read_bytes()

    def edit() -> None:
        place = faulty.home.checkpoints(MODEL, "smoke")
        while not list(place.glob("epoch-*")) and not ended.is_set():
            time.sleep(0.02)
        if change:
            change_yaml(path, change)
        else:
            path.write_text("profile: [", encoding="utf-8")

    remove(faulty.home.checkpoints(MODEL, "smoke"))
    thread = threading.Thread(target=edit)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        path.write_bytes(before)


def _downloads(stage: Stage) -> Iterator[Case]:
    for ranges in (True, False):
        for cuts in (1, 3, 99):
            place = f"{cuts} times, {'resumable' if ranges else 'not resumable'}"
            fault = partial(_fetched, cuts, ranges)
            yield Case("a download that is cut", place, fault, job(stage), job(stage))


@contextmanager
def _fetched(cuts: int, ranges: bool, faulty: Faulty) -> Iterator[None]:
    """The archive has to be fetched from a server that closes connections early."""
    archive, before = faulty.home.archive, faulty.home.params.read_bytes()
    content, digest = archive.read_bytes(), file_digest(archive, "sha256")
    with served(content, cuts, ranges=ranges) as url:
        source = {
            "kind": "download",
            "url": url,
            "sha256": digest,
            "train_per_class": 10,
            "test_per_class": 2,
        }
        change_yaml(faulty.home.params, lambda params: params["sources"]["cifar100"].update(source))
        change_yaml(
            faulty.home.params,
            lambda params: params["profiles"].update(smoke={"source": "cifar100"}),
        )
        remove(archive)
        try:
            yield
        finally:
            faulty.home.params.write_bytes(before)


def _versions() -> Iterator[Case]:
    fault = "DVC between runs"
    yield Case(fault, "`dvc gc --workspace`", _collected, RUN)
    yield Case(fault, "`dvc gc --workspace`, a model deleted", _collected_and_deleted, RUN)
    yield Case(
        fault,
        "another version run; `git checkout` and `dvc checkout` of this one",
        _there_and_back,
        RUN,
    )
    yield Case(
        fault,
        "the same, after `dvc gc --workspace` in the other version",
        partial(_there_and_back, gone=True),
        RUN,
    )


def _gc(faulty: Faulty) -> None:
    status, said = faulty.command("dvc", "gc", "--workspace", "--force")
    assert status == 0, said


@contextmanager
def _collected(faulty: Faulty) -> Iterator[None]:
    _gc(faulty)
    yield


@contextmanager
def _collected_and_deleted(faulty: Faulty) -> Iterator[None]:
    _gc(faulty)
    remove(faulty.home.model(MODEL))
    yield


@contextmanager
def _there_and_back(faulty: Faulty, *, gone: bool = False) -> Iterator[None]:
    faulty.run("git", "checkout", "--quiet", "-B", "other")
    change_yaml(faulty.home.params, lambda content: content["splits"].update(seed=5))
    status, said = faulty.command(*RUN)
    assert status == 0, said
    faulty.commit("--all")
    if gone:
        _gc(faulty)
    faulty.run("git", "checkout", "--quiet", "-")
    faulty.command("dvc", "checkout")
    yield


def examine(case: Case, faulty: Faulty) -> Found:
    """Bring the fault about, type the commands, and compare."""
    faulty.restore()
    began, changed = time.monotonic(), ""
    with case.inject(faulty):
        before = faulty.files()
        status, said = faulty.command(*case.command, obeying=case.obeying)
        if status != 0:
            after = faulty.files()
            changed = ", ".join(path for path in faulty.same if before.get(path) != after.get(path))
    faulty.log.write_text(said, encoding="utf-8")
    if status != 0:
        second, more = faulty.command(*case.then)
        with faulty.log.open("a", encoding="utf-8") as log:
            log.write(f"\n--- {' '.join(case.then)}: {second}\n{more}")
    return Found(
        case.fault,
        case.place,
        code_revision(),
        " ".join(case.command),
        status != 0,
        _sentence(said.replace(str(faulty.root), "FOLDER")) if status != 0 else "",
        "Traceback" in said or '  File "' in said,
        changed,
        faulty.difference(),
        time.monotonic() - began,
    )


def _sentence(said: str) -> str:
    lines = said.splitlines()
    for sign in ("failed: ", "Error: ", "ERROR: "):
        for line in lines:
            if sign in line and "resulted in failure" not in line:
                return line.strip()
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", default="", help="cases whose fault or place has this in it")
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    kept, faulty = work / CASES, Faulty(work / "copy")
    lines = kept.read_text(encoding="utf-8").splitlines() if kept.is_file() else []
    found = {(one.fault, one.place): one for one in (Found(**json.loads(line)) for line in lines)}
    faulty.restore()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # disks are unmounted before the end
    every = list(cases(faulty))
    for case in every:
        key = case.fault, case.place
        if key in found or arguments.only not in ": ".join(key):
            continue
        found[key] = one = examine(case, faulty)
        line = json.dumps(dataclasses.asdict(one))
        with kept.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")
        print("ok  " if one.well else "BAD ", line, file=sys.stderr, flush=True)
        if not one.well:
            shutil.copy(faulty.log, work / f"case-{len(found)}.log")
    _print_page([found[key] for key in ((c.fault, c.place) for c in every) if key in found], every)


def _print_page(found: list[Found], every: list[Case]) -> None:
    revisions = ", ".join(sorted({one.revision for one in found}))
    command = "python -m benchmarks.faults --work FOLDER > benchmarks/results/faults.md"
    print(f"# Faults\n\n`{command}`;\n{describe()}.\nCode: {revisions}.\n")
    print(
        f"n = {len(found)} of the script's {len(every)} cases, each once; "
        f"{sum(one.well for one in found)} ended well.\n\n"
        "- *equal*: after the next command, every artefact is what an undisturbed run makes, and "
        "DVC has it\n"
        "- *said*: of the commands that failed, those that said why in a sentence, without a stack "
        "trace, and\n  left every artefact as it was\n"
        "- *not tried*: cases that the script has and this run did not reach\n"
    )
    columns = ("fault", "not tried", "cases", "equal", "failed", "said", "such as")
    print(f"{_row(*columns)}\n{'|---' * len(columns)}|")
    for fault in dict.fromkeys(case.fault for case in every):
        own = [one for one in found if one.fault == fault]
        failed = [one for one in own if one.failed]
        said = [one for one in failed if one.said and not (one.traced or one.changed)]
        left = sum(case.fault == fault for case in every) - len(own)
        equal = sum(not one.difference for one in own)
        example = said[0].said if said else ""
        print(_row(fault, left, len(own), equal, len(failed), len(said), example))
    if bad := [one for one in found if not one.well]:
        print("\n| did not end well | command | why |\n|---|---|---|")
        for one in bad:
            why = "a stack trace" if one.traced else "no sentence"
            why = one.difference or one.changed or why
            print(_row(f"{one.fault}: {one.place}", f"`{one.command}`", why))


def _row(*cells: object) -> str:
    escaped = (str(cell).replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"


if __name__ == "__main__":
    main()
