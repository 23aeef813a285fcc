"""The readers as `benchmarks.fuzzing` calls them, the inputs that it begins with, and how it
changes these. It starts this module in a process of its own.
"""

import sys

import atheris

with atheris.instrument_imports(include=["cifar_pipeline", "pickletools", "ruamel", "tarfile"]):
    import pickletools
    import tarfile

    import ruamel.yaml

    from cifar_pipeline.dataset.build import read_archive
    from cifar_pipeline.dataset.generated import legacy_pickle
    from cifar_pipeline.dataset.packed import describe, write_archive
    from cifar_pipeline.dataset.pickles import read_pickle
    from cifar_pipeline.dataset.validation import check_archive
    from cifar_pipeline.errors import PipelineError
    from cifar_pipeline.settings.params import PROFILES
    from cifar_pipeline.settings.reading import load_params

import contextlib
import gzip
import io
import json
import os
import pickle
import random
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fuzzing import LARGEST

ROOT = Path(__file__).parents[1]
RECIPES = ("control", "custom", "custom_norm", "custom_search", "cnn9")
"""Recipes beside the settings that are read: few, so that an input is read in milliseconds. One
extends another, and one has a search."""
SPARSE = {
    "train": {"GNU.sparse.map": "0,1", "GNU.sparse.size": "1"},
    "test": {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9"},
    "meta": {"GNU.sparse.offset": "0", "GNU.sparse.numbytes": "1", "path": "a" * 200},
}
"""Headers of files with holes, which tarfile reads with rules of their own."""
EVENTS = ("os.", "shutil.", "socket.", "subprocess.", "ctypes.", "pickle.", "pty.", "webbrowser.")
HARMLESS = {"os.listdir", "os.scandir"}
HOSTILE: tuple[Any, ...] = (
    *(None, True, 0, -1, 1, 10**12, 2**63, 10**99, 0.5, 1e308, float("inf"), float("nan")),
    *("", "\0", "²", "٣", "\ud800", "none", "file://[", "~", "a" * 300, "2001-01-01", "<<"),
    *([], {}, [[]], {"": None}, {"low": 0, "high": 1}, {"low": 1e-300, "high": 1e308, "log": True}),
)
"""What takes the place of a value in settings."""
TOKENS = (
    *("&a ", "*a", "<<: *a\n", "!!pairs ", "!!set ", "!!omap ", "!!binary ", "!!bool ", "!!int "),
    *("!!float ", "!!timestamp ", "!!null ", "!!merge ", "? ", "|\n ", "0x", "0o", ".inf", ".nan"),
    *('"\\0"', '"\\U99999999"', '"\\ud800"', "---\n", "...\n", "%YAML 1.1\n", "#", "\t", "\ufeff"),
)
"""What is put into their text."""


class EscapeError(BaseException):
    """An input that had something run, written or sent. No reader's `except Exception` sees it."""


_watching = False


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watching:
        return
    writes = event == "open" and any(letter in str(arguments[1]) for letter in "wax+")
    if writes or (event.startswith(EVENTS) and event not in HARMLESS):
        raise EscapeError(f"{event} {arguments!r:.200}")


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Where PipelineError is an answer, and nothing may be run, written or sent."""
    global _watching  # noqa: PLW0603  # an audit hook cannot be removed
    _watching = True
    try:
        yield
    except PipelineError:
        pass
    finally:
        _watching = False


def small_members() -> dict[str, bytes]:
    """The archive's pickles with two images each, as the generated archive has them."""
    split = {
        b"filenames": [b"a.png", b"b.png"],
        b"batch_label": b"generated",
        b"fine_labels": [1, 2],
        b"coarse_labels": [1, 2],
        b"data": np.zeros((2, 48), np.uint8),
    }
    meta = {b"fine_label_names": [b"apple", b"bee"], b"coarse_label_names": [b"fruit", b"insect"]}
    return {name: legacy_pickle(split) for name in ("train", "test")} | {
        "meta": legacy_pickle(meta)
    }


def archives() -> list[bytes]:
    """The archive gzipped and plain, and in the other formats that tar has."""
    with tempfile.TemporaryDirectory() as place:
        whole = Path(place, "archive")
        write_archive(whole, small_members())
        zipped = whole.read_bytes()
    seeds = [zipped, gzip.decompress(zipped)]
    for form in (tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
            for name, content in small_members().items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                if form == tarfile.PAX_FORMAT:
                    info.pax_headers = {"comment": "é", "size": str(len(content)), **SPARSE[name]}
                tar.addfile(info, io.BytesIO(content))
            link = tarfile.TarInfo("cifar-100-python/link")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
            tar.addfile(link)
        seeds.append(buffer.getvalue())
    return seeds


def pickles() -> list[bytes]:
    """Members as Python 2 wrote them and as later versions do, and one that would run a command."""
    written = list(small_members().values())
    loaded = pickle.loads(written[0], encoding="bytes")  # noqa: S301  # ours
    written += [pickle.dumps(loaded, protocol) for protocol in range(6)]
    return [*written, b"cos\nsystem\n(S'true'\ntR.", b"\x80\x04\x8c\x02os\x8c\x06system\x93."]


def small_params() -> dict[str, Any]:
    """The project's params.yaml with RECIPES alone."""
    params = ruamel.yaml.YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text())
    params |= {"models": ["custom", "cnn9"], "groups": {"customs": ["custom", "custom_norm"]}}
    params["ensembles"] = {"two": {"members": ["custom", "control"], "mirrored": True}}
    params["floors"] = {profile: {"default": 0.1, "cnn9": 0.2} for profile in PROFILES}
    return params


def sealed(content: bytes) -> bytes:
    """A tar whose headers have the checksums that belong to them, so that it is read on."""
    blocks = bytearray(content)
    for start in range(0, len(blocks) - 511, 512):
        if blocks[start + 257 : start + 262] == b"ustar":
            blocks[start + 148 : start + 156] = b" " * 8
            total = sum(blocks[start : start + 512])
            blocks[start + 148 : start + 156] = b"%06o\0 " % total
    return bytes(blocks)


def changed_headers(content: bytes, chance: random.Random) -> bytes:
    """A tar with a header of another size or kind, or with one header more often."""
    blocks = [content[start : start + 512] for start in range(0, len(content), 512)]
    headers = [at for at, block in enumerate(blocks) if block[257:262] == b"ustar"]
    if not headers:
        return content
    at = chance.choice(headers)
    block = bytearray(blocks[at])
    size = chance.choice((0, 1, 513, 2**33 - 1, 2**62, 2**87 - 1))
    match chance.randrange(3):
        case 0:
            block[124:136] = b"\x80" + size.to_bytes(11, "big")
        case 1:
            block[156] = chance.choice(b"01257LKxgXS\0")
        case _:
            blocks[at:at] = blocks[at : at + 2] * chance.randrange(8)
    blocks[at] = bytes(block)
    return b"".join(blocks)


def changed_settings(content: bytes, chance: random.Random) -> bytes:
    """Settings with one value replaced, or a piece of YAML put into their text."""
    if chance.random() < 0.5:
        at = chance.randrange(len(content) + 1)
        return content[:at] + chance.choice(TOKENS).encode("utf-8", "replace") + content[at:]
    try:
        settings = ruamel.yaml.YAML(typ="safe", pure=True).load(content.decode())
    except Exception:
        return content
    places: list[tuple[Any, Any]] = []
    values = [settings]
    while values and len(places) < 10_000:
        value = values.pop()
        if isinstance(value, dict | list):
            keys = list(value) if isinstance(value, dict) else range(len(value))
            places += [(value, key) for key in keys]
            values += [value[key] for key in keys]
    if not places:
        return content
    (holder, key), (other, source) = chance.choice(places), chance.choice(places)
    holder[key] = deepcopy(chance.choice((other[source], *chance.sample(HOSTILE, 3))))
    try:
        return json.dumps(settings, default=str).encode()  # JSON is YAML
    except (ValueError, TypeError, RecursionError):
        return content


def mutated(target: str) -> Callable[[bytes, int, int], bytes]:
    """How an input of a target is changed."""

    def mutate(content: bytes, largest: int, seed: int) -> bytes:
        chance = random.Random(seed)  # noqa: S311
        if target in ("params", "recipes") and chance.random() < 0.5:
            return changed_settings(content, chance)[:largest]
        if target == "archive" and chance.random() < 0.3:
            return sealed(changed_headers(content, chance))[:largest]
        changed = atheris.Mutate(content, largest)
        return sealed(changed) if target == "archive" else changed

    return mutate


def reader(target: str, place: Path) -> tuple[Callable[[bytes], None], list[bytes]]:
    """What reads an input of a target, and the inputs to begin with."""
    if target == "pickle":
        return read_one_pickle, pickles()
    if target == "archive":
        return lambda content: read_one_archive(content, place / "archive"), archives()
    params, recipes = place / "params.yaml", place / "recipes"
    os.environ["CIFAR_ROOT"] = str(place)
    recipes.mkdir()
    for name in RECIPES:
        shutil.copy(ROOT / "recipes" / f"{name}.yaml", recipes)
    settings = json.dumps(small_params()).encode()
    params.write_bytes(settings)
    if target == "params":
        text = re.sub(rb"(?m)^ *- ladder.*\n", b"", (ROOT / "params.yaml").read_bytes())
        return lambda content: read_settings(content, params, params), [settings, text]
    fuzzed = recipes / "fuzzed.yaml"
    seeds = [file.read_bytes() for file in sorted((ROOT / "recipes").glob("*.yaml"))]
    return lambda content: read_settings(content, fuzzed, params), seeds


def read_one_pickle(content: bytes) -> None:
    with watched():
        for value in read_pickle(content, "train").values():
            entries = value if isinstance(value, list) else [value]
            for entry in entries:
                assert entry is None or isinstance(entry, str | int | float | np.ndarray)


def read_one_archive(content: bytes, file: Path) -> None:
    file.write_bytes(content)
    with watched():
        read_archive(file)
    with watched():
        check_archive(file)
    with watched():
        describe(file)


def read_settings(content: bytes, file: Path, params_file: Path) -> None:
    file.write_bytes(content)
    with watched():
        params = load_params(params_file)
        for name in params.recipes:
            params.recipe(name)


def main() -> None:
    target, *options = sys.argv[1:]
    assert pickletools  # instrumented above, before the reader imports it
    sys.addaudithook(_watch)
    with tempfile.TemporaryDirectory() as place:
        read, seeds = reader(target, Path(place))
        if (corpus := Path(options[-1])).is_dir():
            for number, seed in enumerate(seeds):
                assert len(seed) <= LARGEST
                (corpus / f"seed_{number}").write_bytes(seed)
        atheris.Setup(["fuzzed", *options], read, custom_mutator=mutated(target))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
