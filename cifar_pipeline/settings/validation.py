"""Turning pydantic's findings into messages: the key, what was found, the nearest valid name."""

import difflib
import re
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from cifar_pipeline.errors import PipelineError
from cifar_pipeline.settings.base import NOT_A_NAME

PLAINLY = {
    "string_pattern_mismatch": f"{{found!r:.60}} {NOT_A_NAME}",
    "tuple_type": "{found!r:.60} is not a list; write it as [{found!s:.60}]",
    "model_type": "{found!r:.60} has no keys; docs/configuration.md lists those that belong here",
}
"""Our words for pydantic's, by its names of errors."""

T = TypeVar("T", bound=BaseModel)


def validated(model: type[T], content: Any, where: str) -> T:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise PipelineError(
            f"{where} is not valid:\n" + "\n".join(problems(error, model))
        ) from None


def problems(error: ValidationError, model: type[BaseModel]) -> list[str]:
    names = _keys(model)
    lines = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            lines.append(f"  {where}: no such key{nearest(str(problem['loc'][-1]), names)}")
        elif problem["type"] == "value_error":  # a rule of ours, which says what it found itself
            lines.append(f"  {where + ': ' if where else ''}{problem['ctx']['error']}")
        elif problem["type"] in PLAINLY:
            lines.append(f"  {where}: {PLAINLY[problem['type']].format(found=problem['input'])}")
        else:
            context = problem.get("ctx", {})
            found = context.get("tag", problem["input"])
            allowed = re.findall(
                r"'([^']+)'", str(context.get("expected") or context.get("expected_tags", ""))
            )
            lines.append(
                f"  {where}: {problem['msg']} (found {found!r:.60}){nearest(str(found), allowed)}"
            )
    return lines


def _keys(model: type[BaseModel]) -> set[str]:
    keys = set(model.model_fields)
    for field in model.model_fields.values():
        for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                keys |= _keys(kind)
    return keys


def nearest(name: str, names: Any) -> str:
    matches = difflib.get_close_matches(name, [str(other) for other in names], n=1)
    return f" (did you mean '{matches[0]}'?)" if matches else ""
