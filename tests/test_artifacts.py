import hashlib
import os

import pytest

from cifar_pipeline.artifacts import (
    dvc_md5,
    read_json,
    replacing_file,
    replacing_folder,
    write_json,
)
from cifar_pipeline.errors import PipelineError


class Interrupted(Exception):
    pass


def fail_inside(manager, write):
    def interrupted():
        with manager as new:
            write(new)
            raise Interrupted

    with pytest.raises(Interrupted):
        interrupted()


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "artefact.txt"
    fail_inside(replacing_file(target), lambda new: new.write_text("half"))
    assert list(tmp_path.iterdir()) == []
    with replacing_file(target) as new:
        new.write_text("whole")
    fail_inside(replacing_file(target), lambda new: new.write_text("half"))
    assert [path.name for path in tmp_path.iterdir()] == ["artefact.txt"]
    assert target.read_text() == "whole"


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "model"
    with replacing_folder(target) as new:
        (new / "a").write_text("old")
        (new / "b").write_text("old")
    fail_inside(replacing_folder(target), lambda new: (new / "a").write_text("half"))
    assert {path.name: path.read_text() for path in target.iterdir()} == {"a": "old", "b": "old"}
    with replacing_folder(target) as new:
        (new / "a").write_text("new")
    assert {path.name: path.read_text() for path in target.iterdir()} == {"a": "new"}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_what_a_killed_process_left_is_removed_after_a_day(tmp_path):
    target, old, new = (tmp_path / name for name in ("a.json", ".part.1.a.json", ".part.2.a.json"))
    folder = tmp_path / ".part.x"
    (folder / "model").mkdir(parents=True)
    for path in (old, new):
        path.write_text("half")
    for path in (old, folder):
        os.utime(path, (0, 0))
    write_json(target, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == [".part.2.a.json", "a.json"]


def test_a_hard_link_of_the_old_file_keeps_its_content(tmp_path):
    """As DVC's cache may hold one."""
    target, cache = tmp_path / "metrics.json", tmp_path / "cache"
    write_json(target, {"top1": 0.1})
    cache.hardlink_to(target)
    before = cache.read_bytes()
    write_json(target, {"top1": 0.2})
    assert cache.read_bytes() == before != target.read_bytes()


def test_md5_of_a_file(tmp_path):
    (tmp_path / "f").write_bytes(b"cifar")
    assert dvc_md5(tmp_path / "f") == hashlib.md5(b"cifar").hexdigest()


def test_a_json_file_that_cannot_be_used_is_one_message(tmp_path):
    path = tmp_path / "metrics.json"
    with pytest.raises(PipelineError, match="is missing; materialize"):
        read_json(path)
    path.write_text('{"top1": 0.5')
    with pytest.raises(PipelineError, match="is damaged"):
        read_json(path)
    write_json(path, {"top1": 0.5})
    assert read_json(path, ["top1"]) == {"top1": 0.5}
    with pytest.raises(PipelineError, match="has no n, nll: an older release wrote it"):
        read_json(path, ["top1", "nll", "n"])
