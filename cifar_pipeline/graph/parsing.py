"""A module's source, taken apart into definitions and imports."""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from cifar_pipeline.errors import PipelineError
from cifar_pipeline.graph.syntax import Unit, is_docstring

PACKAGE = "cifar_pipeline"
Import = tuple[str, str | None]
"""The module imported from, relative to the package, and the name in it; None for the module
itself."""
SETTINGS = "settings."
"""Of the settings' types only the methods and class variables count: fields count by their values,
validators refuse and change nothing."""
TYPES = ("Annotated", "Literal", "dict", "tuple")
"""What the types that settings are declared with begin with."""
VALIDATORS = ("model_validator", "field_validator")
HOLDING_STATEMENTS = ("body", "orelse", "finalbody", "handlers", "cases")
SETUP = "<module>"
"""The unit of a module's statements that are neither imports nor definitions."""


@dataclass
class Module:
    """A module's definitions, and what its imports are called."""

    units: dict[str, Unit] = field(default_factory=dict)
    imports: dict[str, Import] = field(default_factory=dict)
    """by local name"""


@lru_cache(maxsize=256)
def parsed(text: str, name: str, known: frozenset[str]) -> Module:
    """A module from its source.

    Args:
        known: the modules of the package.
    """
    module, tree = Module(), ast.parse(text)
    for statement in _statements(tree):
        _check_form(statement, name)
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            module.imports |= imports_of([node], known)
        elif is_docstring(node):
            continue
        elif (defined := _definitions(node, name)) is not None:
            for key, unit in defined.items():
                if key in module.units:  # both count: the second may be made from the first
                    unit.nodes = [*module.units[key].nodes, *unit.nodes]
                module.units[key] = unit
        else:
            module.units.setdefault(SETUP, Unit([])).nodes.append(node)
            module.imports |= imports_of(ast.walk(node), known)
    return module


def _statements(tree: ast.AST) -> Iterator[ast.AST]:
    """Every statement of a tree, without its expressions, which are most of it."""
    pending = [tree]
    while pending:
        node = pending.pop()
        yield node
        for name in HOLDING_STATEMENTS:
            pending += getattr(node, name, ())


def _definitions(node: ast.stmt, module: str) -> dict[str, Unit] | None:
    """What a statement of a module defines; None if it is no definition."""
    if isinstance(node, ast.FunctionDef):
        # The bodies of assets are nested in their factories.
        nested = ast.walk(node) if module.startswith("defs.") else ()
        return {node.name: Unit([node])} | {
            f"{node.name}:{inner.name}": Unit([inner])
            for inner in nested
            if isinstance(inner, ast.FunctionDef) and inner is not node
        }
    if isinstance(node, ast.ClassDef):
        if not module.startswith(SETTINGS):
            return {node.name: Unit([node])}
        parts = {key: part for part in node.body if (key := _counted(part))}
        return {node.name: Unit([*node.bases])} | {
            f"{node.name}.{key}": Unit([part], owner=node.name) for key, part in parts.items()
        }
    if isinstance(node, ast.Assign | ast.AnnAssign):
        return _assigned(node, module)
    return None


def _assigned(node: ast.Assign | ast.AnnAssign, module: str) -> dict[str, Unit] | None:
    """The constants that an assignment defines; None if it changes what something else defines."""
    if module.startswith(SETTINGS) and _is_type(node.value):
        return {}
    stored = [part for part in ast.walk(node) if isinstance(getattr(part, "ctx", None), ast.Store)]
    if any(isinstance(part, ast.Attribute | ast.Subscript) for part in stored):
        return None
    return {part.id: Unit([node]) for part in stored if isinstance(part, ast.Name)}


def _counted(part: ast.stmt) -> str | None:
    """The name of a settings class's method or class variable; None for what does not count."""
    if isinstance(part, ast.FunctionDef):
        decorators = [d.func if isinstance(d, ast.Call) else d for d in part.decorator_list]
        validates = any(isinstance(d, ast.Name) and d.id in VALIDATORS for d in decorators)
        return None if validates else part.name
    if isinstance(part, ast.AnnAssign) and "ClassVar" in ast.unparse(part.annotation):
        return ast.unparse(part.target)
    return ast.unparse(part.targets[0]) if isinstance(part, ast.Assign) else None


def _is_type(value: ast.expr | None) -> bool:
    """Whether a constant is the name of a type: `Count = Annotated[...]`, `A = B | C`."""
    if isinstance(value, ast.BinOp):
        return isinstance(value.op, ast.BitOr)
    return isinstance(value, ast.Subscript) and ast.unparse(value.value) in TYPES


def _check_form(node: ast.AST, module: str) -> None:
    """Raise for an import of this package that hides which names are used."""
    match node:
        case ast.ImportFrom(module=source, level=level, names=aliases):
            ours = level > 0 or (source or "").partition(".")[0] == PACKAGE
            hidden = ours and (level > 0 or any(alias.name == "*" for alias in aliases))
        case ast.Import(names=aliases):
            hidden = any(alias.name.partition(".")[0] == PACKAGE for alias in aliases)
        case _:
            hidden = False
    if hidden and isinstance(node, ast.Import | ast.ImportFrom):
        raise PipelineError(
            f"{PACKAGE}/{module.replace('.', '/')}.py, line {node.lineno}: `{ast.unparse(node)}` "
            "hides what the module uses, and so what its stages depend on; write it as "
            f"`from {PACKAGE}.module import name`"
        )


def imports_of(
    nodes: Iterable[ast.AST], known: frozenset[str]
) -> dict[str, tuple[str, str | None]]:
    """This package's modules and names that some of the nodes import, by what they call them."""
    found: dict[str, Import] = {}
    for statement in nodes:
        if not isinstance(statement, ast.ImportFrom) or not statement.module:
            continue
        top, _, source = statement.module.partition(".")
        if top != PACKAGE:
            continue
        for alias in statement.names:
            as_module = f"{source}.{alias.name}".lstrip(".")
            is_module = bool({as_module, f"{as_module}.__init__"} & known)
            found[alias.asname or alias.name] = (
                (as_module, None) if is_module else (source, alias.name)
            )
    return found
