import os
import pickle
import pickletools
import time
import tracemalloc

import numpy as np
import pytest

from cifar_pipeline.dataset.generated import legacy_pickle
from cifar_pipeline.dataset.pickles import read_pickle
from cifar_pipeline.errors import PipelineError


def test_generated_pickles_are_of_upstreams_format(content):
    """They have the opcodes and names of upstream's files, and none of numpy 2 or Python 3."""
    used = {op.name: arg for op, arg, _ in pickletools.genops(legacy_pickle(content["test"]))}
    names = {
        arg
        for op, arg, _ in pickletools.genops(legacy_pickle(content["test"]))
        if op.name == "GLOBAL"
    }
    assert names == {"numpy.core.multiarray _reconstruct", "numpy ndarray", "numpy dtype"}
    assert {"SHORT_BINSTRING", "BINSTRING", "REDUCE", "BUILD"} <= set(used)
    assert not {"BINUNICODE", "SHORT_BINBYTES", "STACK_GLOBAL"} & set(used)


def test_generated_pickles_are_read_by_pythons_own_unpickler(content):
    loaded = pickle.loads(legacy_pickle(content["test"]), encoding="bytes")
    assert np.array_equal(loaded[b"data"], content["test"][b"data"])
    assert loaded[b"fine_labels"] == content["test"][b"fine_labels"]


def test_reads_what_was_written(content):
    loaded = read_pickle(legacy_pickle(content["train"]), "train")
    assert np.array_equal(loaded["data"], content["train"][b"data"])
    assert loaded["fine_labels"] == content["train"][b"fine_labels"]
    assert loaded["filenames"] == [name.decode() for name in content["train"][b"filenames"]]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("text_keys", [True, False])
def test_reads_what_python_3_and_numpy_2_write(content, protocol, text_keys):
    """As files are that somebody loaded and saved again."""
    member = content["test"]
    saved = {key.decode(): value for key, value in member.items()} if text_keys else member
    loaded = read_pickle(pickle.dumps(saved, protocol), "test")
    assert np.array_equal(loaded["data"], member[b"data"])
    assert loaded["fine_labels"] == member[b"fine_labels"]
    assert loaded["filenames"] == [name.decode() for name in member[b"filenames"]]


@pytest.mark.parametrize("name", ["\ud800x", b"\xffx"])
def test_what_is_no_character_is_replaced(name):
    """No table and no page could hold it."""
    read = read_pickle(pickle.dumps({"fine_label_names": [name], name: 1}), "meta")
    [found] = read["fine_label_names"]
    assert found in {"?x", "\ufffdx"}
    assert read[found] == 1


@pytest.mark.parametrize("protocol", [2, 5])
@pytest.mark.parametrize(
    "array", [np.zeros((2, 3), np.int64), np.zeros((2, 3), np.uint8, order="F"), np.array([{}])]
)
def test_other_arrays_are_refused_under_every_protocol(protocol, array):
    with pytest.raises(PipelineError, match="train: the pickle holds a"):
        read_pickle(pickle.dumps({"data": array}, protocol), "train")


class Command:
    """A pickle of it runs a command when it is loaded by a trusting reader."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_would_run_a_command_does_not(tmp_path, protocol):
    victim = tmp_path / "victim"
    with pytest.raises(
        PipelineError, match=r"train: the pickle asks for (posix|nt)\.system.*nothing was run"
    ):
        read_pickle(pickle.dumps({"data": Command(victim)}, protocol), "train")
    assert not victim.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a readable pickle"),
        (b"\x80\x02}q\x01(U\x04data", "not a readable pickle"),
        (b"<html>404</html>", "not a readable pickle"),
        (pickle.dumps([1, 2], 2), "holds a list, expected a dict"),
        (pickle.dumps({"a": (1, 2)}, 2), "holds a tuple, expected arrays"),
        (b"\x80\x02P0\n.", "refers to an object outside itself"),
        (b"\x80\x02X\x01\x00\x00\x00aQ.", "refers to an object outside itself"),
    ],
)
def test_what_is_no_cifar_pickle_is_one_message(content, message):
    with pytest.raises(PipelineError, match=f"train.*{message}"):
        read_pickle(content, "train")


def nested(depth):
    """Ten references to ten references, and so on: a few hundred bytes that stand for 10**depth
    names."""
    names = ["apple"] * 10
    for _ in range(depth):
        names = [names] * 10
    return pickle.dumps({"fine_label_names": names}, 2)


HOSTILE = {
    "nested references": (nested(30), "lists in lists"),
    "a list in itself": (b"\x80\x02}X\x01\x00\x00\x00a]q\x01h\x01as.", "lists in lists"),
    "a deep list": (b"\x80\x02}X\x01\x00\x00\x00a" + b"]" * 5000 + b"a" * 4999 + b"s.", "lists in"),
    "colliding tuples": (pickle.dumps({(n, n): n for n in range(2000)}, 2), "more tuples"),
    "floats": (pickle.dumps({float(n): n for n in range(2000)}, 2), "more floats"),
    "colliding numbers": (pickle.dumps({n * (2**61 - 1): n for n in range(200)}, 2), "bits"),
    "a long label": (pickle.dumps({"fine_labels": [10**5000]}, 2), "a number of 16,610 bits"),
    "a far memo": (b"\x80\x02}r\xff\xff\xff\x7f.", "more parts than"),
    "a long name": (pickle.dumps({"filenames": ["x" * 10**7] * 50_000}, 2), "10,000,000 char"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_could_take_hours_or_gigabytes_is_refused_at_once(case):
    content, message = HOSTILE[case]
    tracemalloc.start()
    started = time.monotonic()
    with pytest.raises(PipelineError, match=f"train.*{message}"):
        read_pickle(content, "train")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert time.monotonic() - started < 10
    assert most < 200e6


def test_every_truncation_is_refused(content):
    whole = legacy_pickle(content["meta"])
    for size in range(len(whole) - 1):
        with pytest.raises(PipelineError):
            read_pickle(whole[:size], "meta")


def test_an_array_whose_shape_and_size_disagree_is_refused():
    """A trusting numpy would allocate what the shape says."""
    whole = legacy_pickle({b"data": np.zeros((2, 3), np.uint8)})
    assert b"K\x02K\x03\x86" in whole
    with pytest.raises(PipelineError, match="shape and size disagree"):
        read_pickle(whole.replace(b"K\x02K\x03\x86", b"K\xffK\xff\x86"), "train")
