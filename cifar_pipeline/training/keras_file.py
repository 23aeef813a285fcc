"""Writing a Keras file whose bytes depend on the model alone.

Keras writes the time of saving into the archive, and numbers shared objects by their addresses in
memory. Without them a retraining that ends in the same weights leaves the same file, and nothing
that follows from it is stale.
"""

import json
import zipfile
from pathlib import Path
from typing import Any

import keras

EPOCH = (1980, 1, 1, 0, 0, 0)
"""the earliest time that an entry of a zip file can have"""
SAVED = "1980-01-01@00:00:00"


def write_keras_file(model: keras.Model, path: Path) -> None:
    """Write `model` to `path`, whose name ends in `.keras`. Same weights and layers, same bytes."""
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in sorted(archive.namelist())}
    metadata = json.loads(members["metadata.json"]) | {"date_saved": SAVED}
    config = json.loads(members["config.json"])
    _renumber(config, {})
    for name, content in (("metadata.json", metadata), ("config.json", config)):
        members[name] = json.dumps(content).encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name, EPOCH), data)


def _renumber(config: Any, numbers: dict[int, int]) -> None:
    """Number shared objects in the order in which the configuration first names them."""
    if isinstance(config, list):
        for item in config:
            _renumber(item, numbers)
    elif isinstance(config, dict):
        if (shared := config.get("shared_object_id")) is not None:
            config["shared_object_id"] = numbers.setdefault(shared, len(numbers))
        for item in config.values():
            _renumber(item, numbers)
