"""Reading CIFAR's pickles without ever running what a pickle says.

The unpickler never calls numpy, or anything else, on a pickle's behalf: the few names that
upstream's files use, and those that Python 3 and numpy 2 write when somebody saves them again,
resolve to the inert records below, which are checked and turned into arrays afterwards. Every other
name is refused.
"""

import io
import math
import pickle
import pickletools
from typing import Any

import numpy as np

from cifar_pipeline.errors import PipelineError


class _DType:
    """What `numpy.dtype` would make: the name of the type, nothing else."""

    def __init__(self, kind: Any = None, *_: Any) -> None:
        self.kind = kind

    def __setstate__(self, _: Any) -> None:
        pass


class _NDArray:
    """Stands for the class `numpy.ndarray`, which pickles only pass as an argument."""


class _Array:
    """What numpy's `_reconstruct` would make: keeps the state it is given, does nothing with it."""

    state: Any = None

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def array(self) -> np.ndarray:
        """The uint8 array described by the state, without a copy of the pixels."""
        match self.state:
            case (_, tuple(shape), _DType(kind=b"u1" | "u1"), False | 0, pixels):
                return _checked(pixels, shape)
        raise PipelineError(NO_ARRAY)


class _Buffer(_Array):
    """What numpy's `_frombuffer` would make, with which protocol 5 stores arrays."""

    def __init__(self, *arguments: Any) -> None:
        self.state = arguments

    def array(self) -> np.ndarray:
        """The uint8 array described by the arguments, without a copy of the pixels."""
        match self.state:
            case (pixels, _DType(kind=b"u1" | "u1"), tuple(shape), "C"):
                return _checked(pixels, shape)
        raise PipelineError(NO_ARRAY)


class _Encoded:
    """What `_codecs.encode` would make: bytes, which Python 3 stores as text under protocol 2."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def content(self) -> bytes:
        """The bytes that the arguments describe."""
        match self.arguments:
            case (str(text), "latin1"):
                return text.encode("latin1")
        raise PipelineError("the pickle holds text in another encoding than latin1")


NO_ARRAY = (
    "the pickle holds an array that is not uint8 in C order, or whose shape and size disagree"
)

ADMITTED = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy.core.numeric", "_frombuffer"): _Buffer,
    ("numpy._core.numeric", "_frombuffer"): _Buffer,
    ("numpy", "ndarray"): _NDArray,
    ("numpy", "dtype"): _DType,
    ("_codecs", "encode"): _Encoded,
}


MOST_OPCODES = 10_000_000
"""Upstream's largest file has about 200,000. Fifty bytes may cost gigabytes, or hours."""
MOST_OF = {"TUPLE": 1000, "FLOAT": 1000}
"""Opcodes by how their names begin, of which no CIFAR file has many. Tuples and floats can be made
whose hashes collide, and a dict of them takes for ever."""
MOST_BITS = 64
MOST_CHARACTERS = 1000
"""In a name. References let one name stand thousands of times."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ADMITTED:
            raise PipelineError(
                f"the pickle asks for {module}.{name}, which no CIFAR file needs; nothing was run"
            )
        return ADMITTED[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise PipelineError(
            f"the pickle refers to an object outside itself ({pid!r:.40}); nothing was run"
        )


def read_pickle(content: bytes, name: str) -> dict[str, Any]:
    """Read a member of the archive: a dict of str to uint8 arrays, str, numbers and lists of them.

    Args:
        content: the pickle, of any protocol; upstream's is 2, as Python 2 wrote it (byte strings).
        name: the member's name, for messages.

    Raises: PipelineError, without a repair, when the pickle is damaged, is not a dict, or asks for
        anything else.
    """
    try:
        _check_bounded(content)
        loaded = _Unpickler(io.BytesIO(content), encoding="bytes").load()
        if not isinstance(loaded, dict):
            raise PipelineError(f"the pickle holds a {type(loaded).__name__}, expected a dict")
        return {_text(_inert(key)): _plain(value) for key, value in loaded.items()}
    except PipelineError as error:
        raise PipelineError(f"{name}: {error}") from None
    # Damaged opcodes surface as almost any built-in error; each means the same to the reader.
    except Exception as error:
        raise PipelineError(
            f"{name} is not a readable pickle ({type(error).__name__}: {error})"
        ) from None


def _check_bounded(content: bytes) -> None:
    """Raise for a pickle that could take memory or time out of proportion to its size. Nothing is
    loaded for that."""
    counts = dict.fromkeys(MOST_OF, 0)
    for number, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        name = opcode.name
        if number > MOST_OPCODES or ("PUT" in name and (argument or 0) > MOST_OPCODES):
            raise PipelineError("the pickle has more parts than a CIFAR file")
        if isinstance(argument, int) and argument.bit_length() > MOST_BITS:
            raise PipelineError(f"the pickle holds a number of {argument.bit_length():,} bits")
        for kind in counts:
            if kind in name:
                counts[kind] += 1
                if counts[kind] > MOST_OF[kind]:
                    raise PipelineError(f"the pickle has more {kind.lower()}s than a CIFAR file")


def _checked(pixels: Any, shape: tuple[Any, ...]) -> np.ndarray:
    pixels = _inert(pixels)
    if (
        isinstance(pixels, bytes | bytearray)
        and all(isinstance(n, int) and n >= 0 for n in shape)
        and math.prod(shape) == len(pixels)
    ):
        return np.frombuffer(pixels, np.uint8).reshape(shape)
    raise PipelineError(NO_ARRAY)


def _inert(value: Any) -> Any:
    return value.content() if isinstance(value, _Encoded) else value


def _text(value: Any) -> str:
    """As text that can be written: a string of Python 3 may hold half a character."""
    content = value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")
    return content.decode("utf-8", "replace")


def _entry(value: Any) -> Any:
    """A label or a name. Lists in lists could stand for endlessly many values."""
    found = _inert(value)
    if isinstance(found, list | _Array):
        raise PipelineError("the pickle holds lists in lists, expected labels and names")
    if isinstance(found, bytes | str) and len(found) > MOST_CHARACTERS:
        raise PipelineError(f"the pickle holds a name of {len(found):,} characters")
    return _plain(found)


def _plain(value: Any) -> Any:
    match _inert(value):
        case _Array() as array:
            return array.array()
        case bytes() | str() as text:
            return _text(text)
        case list() as items:
            return [_entry(item) for item in items]
        case int() | float() | None as number:
            return number
        case other:
            raise PipelineError(
                f"the pickle holds a {type(other).__name__}, expected arrays, lists, strings and "
                "numbers"
            )
