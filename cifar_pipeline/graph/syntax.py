"""What counts of a syntax tree, and its checksum.

Comments and formatting are not in the tree. Docstrings, the texts of errors, what only tells people
something, and the descriptions of assets are left out here: they change no artefact.
"""

import ast
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

LEFT_OUT = {"ctx", "kind", "type_comment", "type_params"}
"""Fields that differ between Python versions, or say nothing."""
TELLING = ("print", "say", "_say")
"""Calls that only tell people something; their arguments do not count."""


@dataclass
class Unit:
    """One definition of a module, or a method of one of the settings' types."""

    nodes: list[ast.AST]
    owner: str | None = None
    """the class of a method"""

    @cached_property
    def digest(self) -> str:
        """A checksum of the syntax trees, without what changes no artefact."""
        content = json.dumps([_plain(node) for node in self.nodes])
        return hashlib.md5(content.encode(), usedforsecurity=False).hexdigest()

    @cached_property
    def counted(self) -> list[ast.AST]:
        """Every node that counts."""
        return list(_walk(self.nodes))


def is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def is_asset(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef) and any(
        "dg.asset" in ast.unparse(decorator).split("(")[0] for decorator in node.decorator_list
    )


def _walk(nodes: list[ast.AST]) -> Iterator[ast.AST]:
    pending = list(nodes)
    while pending:
        node = pending.pop()
        yield node
        for _, value in _fields(node):
            if isinstance(value, ast.AST):
                pending.append(value)
            elif isinstance(value, list):
                pending += [child for child in value if isinstance(child, ast.AST)]


def _fields(node: ast.AST) -> Iterator[tuple[str, Any]]:
    """A node's fields, without docstrings, the words of errors, and what only tells people."""
    for name in node._fields:
        value = getattr(node, name, None)
        if value is None or value == [] or name in LEFT_OUT:
            continue
        if name == "decorator_list" and is_asset(node):
            continue  # the asset's descriptions; what it makes is in its body
        if name in {"args", "keywords"} and _only_tells(node):
            continue
        if isinstance(node, ast.Raise) and isinstance(value, ast.Call):
            yield name, value.func
        elif name == "body" and isinstance(value, list):
            yield name, [statement for statement in value if not is_docstring(statement)]
        else:
            yield name, value


def _only_tells(node: ast.AST) -> bool:
    called = node.func if isinstance(node, ast.Call) else None
    return isinstance(called, ast.Name) and called.id in TELLING


def _plain(node: Any) -> Any:
    """A syntax tree as nested lists that are the same under every Python version."""
    if isinstance(node, ast.AST):
        return [type(node).__name__, *([name, _plain(value)] for name, value in _fields(node))]
    if isinstance(node, list):
        return [_plain(item) for item in node]
    return node if isinstance(node, str | int | bool | None) else repr(node)
