"""A trained model as a repository on Hugging Face: weights, exported file, labels and card."""

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifar_pipeline.artifacts import read_json, replacing_folder
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.models.saved import CALIBRATION, LABELS, MODEL, PROVENANCE, load_labels
from cifar_pipeline.paths import Workspace
from cifar_pipeline.reports.files import CARD
from cifar_pipeline.serving.exported import MODEL as ONNX
from cifar_pipeline.serving.exported import ExportedModel

if TYPE_CHECKING:
    from huggingface_hub import ModelCard
    from huggingface_hub.errors import HfHubHTTPError

REPOSITORY = r"[\w.-]+/[\w.-]+"
USE = """
## Use without Keras

`{file}` needs onnxruntime alone. It takes photographs of any size, uint8 (N, H, W, 3), and returns
calibrated probabilities; its metadata has the names of the classes.

```python
import json

import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("{file}")
classes = json.loads(session.get_modelmeta().custom_metadata_map["labels"])["classes"]

photograph = np.zeros((1, 300, 400, 3), np.uint8)  # put yours in its place: red, green, blue
(probabilities,) = session.run(["probabilities"], {{"image": photograph}})
for row in probabilities:
    print(classes[row.argmax()], row.max())
```
"""


def assemble(name: str, home: Workspace, folder: Path, licence: str | None) -> list[Path]:
    """Write to `folder` what a repository of the model holds.

    Args:
        folder: must not exist, or must hold an earlier form of the same.
        licence: of the weights, by Hugging Face's identifiers, such as `apache-2.0`.

    Returns: the files.

    Raises: PipelineError when the model, its export or its report is missing, when they do not
        belong together, or when the card would not be valid.
    """
    model, export, report = home.model(name), home.export(name), home.report(name)
    _check_together(name, home)
    if folder.exists() and not (folder / MODEL).is_file():
        raise PipelineError(f"{folder} holds something else; name a folder that does not exist")
    with replacing_folder(folder) as new:
        for file in (MODEL, LABELS, CALIBRATION, PROVENANCE):
            shutil.copy(model / file, new)
        for exported in sorted(export.glob("*.onnx")):
            shutil.copy(exported, new)
        card = (report / CARD).read_text(encoding="utf-8") + USE.format(file=ONNX)
        if licence:
            card = card.replace("---\n", f"---\nlicense: {licence}\n", 1)
        (new / CARD).write_text(card, encoding="utf-8")
        _check_card(new)
    return sorted(folder.iterdir())


def push(folder: Path, repository: str, *, private: bool) -> str:
    """Upload `folder` to a model repository on Hugging Face, which is made if it is missing.

    The token is huggingface_hub's own: HF_TOKEN, or that of `hf auth login`.

    Returns: the address of the commit.

    Raises: PipelineError when the Hub cannot be reached or refuses, or finds fault with the card.
    """
    import huggingface_hub  # noqa: PLC0415  # an extra
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError  # noqa: PLC0415

    try:
        _card(folder).validate(repo_type="model")
        huggingface_hub.create_repo(repository, private=private, exist_ok=True)
        commit = huggingface_hub.upload_folder(
            repo_id=repository, folder_path=folder, commit_message="A model of cifar_pipeline"
        )
    except LocalTokenNotFoundError:
        raise PipelineError(
            "Hugging Face wants to know who you are; run `hf auth login`, or set HF_TOKEN"
        ) from None
    except HfHubHTTPError as error:
        login = "; run `hf auth login`, or set HF_TOKEN" if _unauthorised(error) else ""
        raise PipelineError(f"Hugging Face refused: {error!s:.300}{login}") from None
    except Exception as error:  # those of its HTTP client, and what it finds wrong with the card
        raise PipelineError(
            f"the model cannot be brought to Hugging Face ({error!s:.300}); nothing may have "
            "been uploaded, and a second try does no harm"
        ) from None
    return str(commit.commit_url)


def check_repository(name: str) -> None:
    """Refuse what cannot be a repository's name.

    Raises: PipelineError.
    """
    if not re.fullmatch(REPOSITORY, name):
        raise PipelineError(
            f"'{name}' names no repository; expected OWNER/NAME, such as me/cifar100-b0"
        )


def _unauthorised(error: "HfHubHTTPError") -> bool:
    return error.response is not None and error.response.status_code in (401, 403)


def _check_together(name: str, home: Workspace) -> None:
    trained = read_json(home.model(name) / PROVENANCE, ("model_sha256",))["model_sha256"]
    others = {
        "export": ExportedModel(home.export(name) / ONNX).provenance["model_sha256"],
        "report": read_json(home.report(name) / PROVENANCE, ("model_sha256",))["model_sha256"],
    }
    for what, digest in others.items():
        if digest != trained:
            raise PipelineError(
                f"the {what} of {name} is of another training than {home.model(name)}; make it "
                f"again with `cifar run --model {name}`"
            )


def _check_card(folder: Path) -> None:
    """What can be checked of a card without the Hub."""
    labels = load_labels(folder)
    data: Any = _card(folder).data  # types are not complete there
    names = data.to_dict().get("id2label")
    if names != {str(place): label for place, label in enumerate(labels.classes)}:
        raise PipelineError("the card names other classes than the model; make the report again")
    if not data.eval_results:
        raise PipelineError("the card has no results; make the report again")


def _card(folder: Path) -> "ModelCard":
    try:
        from huggingface_hub import ModelCard  # noqa: PLC0415
    except ImportError:
        raise PipelineError(
            "publishing needs the extra `publish`; run `pip install 'cifar-pipeline[publish]'`"
        ) from None
    try:
        return ModelCard((folder / CARD).read_text(encoding="utf-8"))
    except ValueError as error:
        raise PipelineError(f"the model card is not valid: {error}") from None
