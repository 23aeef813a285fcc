"""The HTTP endpoint: photographs in, classes with calibrated probabilities out.

Nothing of a request is written to disk. `cifar serve` runs it; so does any ASGI server:
`CIFAR_MODEL=model.onnx uvicorn --factory cifar_pipeline.serving.endpoint:from_environment`.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, HTTPException, Query, Request
from pydantic import BaseModel, Field
from starlette.formparsers import MultiPartException, MultiPartParser

from cifar_pipeline.errors import PipelineError
from cifar_pipeline.serving.exported import ExportedModel
from cifar_pipeline.serving.photographs import STRICT, Limits
from cifar_pipeline.serving.predictor import TOP, Predictor, Source


@dataclass(frozen=True)
class RequestLimits:
    """What one request, and all of them together, may cost."""

    request_bytes: int = 50_000_000
    images: int = 64
    """in one request"""
    image: Limits = STRICT
    at_once: int = 16
    """requests that are being answered or wait for it; more are told to come back"""
    upload_s: float = 30.0
    """how long the body of a request may take to arrive"""


class Guess(BaseModel):
    """One of an image's likeliest classes."""

    rank: int = Field(examples=[1])
    name: str = Field(alias="class", examples=["leopard"])
    superclass: str = Field(examples=["large_carnivores"])
    probability: float = Field(examples=[0.83], description="calibrated")


class Answer(BaseModel):
    """What the model says of one image, or why it says nothing."""

    file: str = Field(examples=["leopard.jpg"], description="its name, if one was sent")
    sha256: str = Field(description="its checksum")
    width: int | None = Field(examples=[640], description="of the upright image, in pixels")
    height: int | None = Field(examples=[480])
    top: list[Guess] = Field(description="likeliest first; empty if there is an error")
    none_of_these: bool | None = Field(
        examples=[False],
        description="whether the image is unlike those of every class; null if the model has no "
        "threshold",
    )
    error: str | None = Field(examples=[None], description="why the image could not be read")
    model: str = Field(examples=["efficientnet_b0"])
    model_sha256: str


class Metadata(BaseModel):
    """What the model is."""

    name: str
    sha256: str
    classes: list[str]
    superclasses: list[str]
    superclass_of: list[int]
    temperature: float
    threshold: float | None
    provenance: dict[str, Any]


BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "files": {"type": "array", "items": {"type": "string", "format": "binary"}}
                    },
                }
            },
            **{
                kind: {"schema": {"type": "string", "format": "binary"}}
                for kind in ("image/jpeg", "image/png", "application/octet-stream")
            },
        },
    }
}
"""FastAPI cannot derive a body that is one of several types."""


def create_app(model: ExportedModel, limits: RequestLimits | None = None) -> FastAPI:
    """The ASGI application that answers with `model`."""
    limits = limits or RequestLimits()
    threads = CapacityLimiter(os.cpu_count() or 1)
    queue = _Queue(limits.at_once)

    @asynccontextmanager
    async def warmed_up(_: FastAPI) -> AsyncIterator[None]:
        model.answer(np.zeros((1, 32, 32, 3), np.uint8))
        yield

    app = FastAPI(
        title=f"cifar_pipeline: {model.name}",
        version=version("cifar-pipeline"),
        description="Classifies photographs by the classes of CIFAR-100.",
        lifespan=warmed_up,
    )

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Whether the server answers."""
        return {"status": "ok"}

    @app.get("/metadata")
    async def metadata() -> Metadata:
        """Which model answers, and what it tells apart."""
        return Metadata(
            name=model.name,
            sha256=model.sha256,
            **vars(model.labels),
            temperature=model.temperature,
            threshold=model.threshold,
            provenance=model.provenance,
        )

    @app.post("/predict", openapi_extra=BODY, responses=REFUSALS)
    async def predict(
        request: Request,
        top: Annotated[
            int, Query(ge=1, le=len(model.labels.classes), description="classes for each image")
        ] = TOP,
    ) -> list[Answer]:
        """Classify one image, sent as it is, or several, sent as a form's `files`."""
        with queue.place():
            try:
                async with asyncio.timeout(limits.upload_s):
                    files = await _files(request, limits)
            except TimeoutError:
                raise HTTPException(
                    408, f"the request did not arrive within {limits.upload_s:g} s"
                ) from None
            sources = [Source(name, content) for name, content in files]
            predictor = Predictor(model, top=top, limits=limits.image)
            answers = await to_thread.run_sync(_documents, predictor, sources, limiter=threads)
        if all(answer["error"] for answer in answers):
            raise HTTPException(422, "; ".join(f"{a['file']}: {a['error']}" for a in answers))
        return [Answer(**answer) for answer in answers]

    return app


REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"description": "The form cannot be read, or has fields that are not files."},
    408: {"description": "The request took too long to arrive."},
    413: {"description": "The request is too large, or has too many images."},
    422: {"description": "No image of the request can be read, or `top` is out of range."},
    503: {"description": "Too many requests at once; try again."},
}


def from_environment() -> FastAPI:
    """The application for the file that CIFAR_MODEL names.

    Raises: PipelineError when it names none.
    """
    path = os.environ.get("CIFAR_MODEL")
    if not path:
        raise PipelineError("set CIFAR_MODEL to the path of an exported model, such as model.onnx")
    return create_app(ExportedModel(Path(path)))


class _Queue:
    """Counts the requests that are inside."""

    def __init__(self, places: int) -> None:
        self._free = places

    @contextmanager
    def place(self) -> Iterator[None]:
        if not self._free:
            raise HTTPException(503, "too many requests at once", {"Retry-After": "1"})
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1


class _InMemory(MultiPartParser):
    """Starlette's parser, which would write files of more than a megabyte to disk."""

    spool_max_size = 2**40


async def _files(request: Request, limits: RequestLimits) -> list[tuple[str, bytes]]:
    """The names and contents of a request's files."""
    body = _at_most(request.stream(), limits.request_bytes)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        return [("image", b"".join([chunk async for chunk in body]))]
    parser = _InMemory(request.headers, body, max_files=limits.images, max_fields=0)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        status = 413 if "Too many files" in error.message else 400
        raise HTTPException(status, f"the form cannot be read: {error.message}") from None
    files = [file for _, file in form.multi_items() if not isinstance(file, str)]
    if not files:
        raise HTTPException(422, "the form has no file; send images as `files`")
    return [(file.filename or "image", await file.read()) for file in files]


async def _at_most(body: AsyncIterator[bytes], limit: int) -> AsyncGenerator[bytes]:
    received = 0
    async for chunk in body:
        received += len(chunk)
        if received > limit:
            raise HTTPException(413, f"the request has more than {limit:,} bytes")
        yield chunk


def _documents(predictor: Predictor, sources: list[Source]) -> list[dict[str, Any]]:
    return [predictor.document(prediction) for prediction in predictor.predict(sources)]
