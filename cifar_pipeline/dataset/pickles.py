"""Reading CIFAR's legacy pickles without ever running what a pickle says.

The unpickler never calls numpy, or anything else, on a pickle's behalf: the three names that upstream's files use
resolve to the inert records below, which are checked and turned into an array afterwards. Every other name is refused.
"""

import io
import math
import pickle
from typing import Any

import numpy as np

from cifar_pipeline.errors import PipelineError


class _Array:
    """What `numpy.core.multiarray._reconstruct` would make: keeps the state it is given, does nothing with it."""

    state: tuple[Any, ...] | None = None

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state

    def array(self) -> np.ndarray:
        """The uint8 array described by the state, without a copy of the pixels."""
        match self.state:
            case (_, tuple(shape), _DType(kind=b"u1"), fortran, bytes(pixels)):
                if (
                    not fortran
                    and all(isinstance(n, int) and n >= 0 for n in shape)
                    and math.prod(shape) == len(pixels)
                ):
                    return np.frombuffer(pixels, np.uint8).reshape(shape)
        raise PipelineError(
            "the pickle holds an array that is not uint8 in C order, or whose shape and size disagree"
        )


class _DType:
    """What `numpy.dtype` would make: the name of the type, nothing else."""

    def __init__(self, kind: Any, *_: Any) -> None:
        self.kind = kind

    def __setstate__(self, _: Any) -> None:
        pass


class _NDArray:
    """Stands for the class `numpy.ndarray`, which upstream's pickles only pass as an argument."""


ADMITTED = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _NDArray,
    ("numpy", "dtype"): _DType,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ADMITTED:
            raise PipelineError(
                f"the pickle asks for {module}.{name}, which no CIFAR file needs; nothing was run. "
                "Delete the archive and fetch it from a source you trust."
            )
        return ADMITTED[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise PipelineError(
            f"the pickle refers to an object outside itself ({pid!r:.40}); nothing was run."
        )


def read_pickle(content: bytes, name: str) -> dict[str, Any]:
    """Read one member of the archive: a dict of str keys to uint8 arrays, str, ints and lists of them.

    Args:
        content: the pickle, protocol 2 as Python 2 wrote it (byte strings, legacy numpy names).
        name: the member's name, for messages.

    Raises: PipelineError when the pickle is damaged, is not a dict, or asks for anything else.
    """
    try:
        loaded = _Unpickler(io.BytesIO(content), encoding="bytes").load()
    except PipelineError as error:
        raise PipelineError(f"{name}: {error}") from None
    # Damaged opcodes surface as almost any built-in error; each means the same to the reader.
    except Exception as error:
        raise PipelineError(
            f"{name} is not a readable pickle ({type(error).__name__}: {error}); fetch the archive again"
        ) from None
    if not isinstance(loaded, dict):
        raise PipelineError(
            f"{name} holds a {type(loaded).__name__}, expected a dict; fetch the archive again"
        )
    return {_text(key): _plain(value, name) for key, value in loaded.items()}


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _plain(value: Any, name: str) -> Any:
    match value:
        case _Array():
            return value.array()
        case bytes() | str():
            return _text(value)
        case list():
            return [_plain(item, name) for item in value]
        case int() | float() | None:
            return value
        case _:
            raise PipelineError(
                f"{name} holds a {type(value).__name__}, expected arrays, lists, strings and numbers"
            )
