"""Which code decides what a stage makes, derived from the source itself.

Starting at the body of a stage's asset, every function, class and constant of this package that it
refers to is followed, through imports, to whatever those refer to. What is found is digested from
its syntax tree, so that comments, docstrings, formatting and the texts of error messages do not
count: they change no artefact.

The analysis goes by names and runs nothing. `tests/graph/test_code.py` holds it to what really
runs: every function of the package that a stage calls must be among what is found here.
"""

import ast
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from cifar_pipeline.errors import PipelineError

PACKAGE = "cifar_pipeline"
NEUTRAL = (
    *("cli", "definitions", "defs", "graph"),  # what calls the stages
    *("errors", "provenance"),  # messages, and records of the machine
    *("settings.params", "settings.reading", "settings.editing", "settings.validation"),
    "paths",  # where artefacts are, not what they are
)
"""Modules that decide no artefact: they are not followed. What the settings say counts by its
values (`graph/plan.py`), not by the code that reads them."""
SETTINGS = "settings."
"""Of the settings' types only the methods and class variables count: fields count by their values,
validators refuse and change nothing."""
TYPES = ("Annotated", "Literal", "dict", "tuple")
"""What the types that settings are declared with begin with."""
VALIDATORS = ("model_validator", "field_validator")
TELLING = ("print", "say", "_say")
"""Calls that only tell people something; their arguments do not count."""
SETUP = "<module>"
"""The unit of a module's statements that are neither imports nor definitions."""


class Name(NamedTuple):
    """A definition: the module, relative to the package, and the name in it."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


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


@dataclass
class Module:
    """A module's definitions, and what its imports are called."""

    units: dict[str, Unit] = field(default_factory=dict)
    imports: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    """by local name: the module imported from, relative to the package, and the name in it; None
    for the module itself"""


class Code:
    """The source of the package, parsed once.

    Args:
        folder: of the package.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._modules: dict[str, Module] = {}
        self._known = frozenset(
            ".".join(path.relative_to(folder).with_suffix("").parts)
            for path in folder.rglob("*.py")
        )
        self._used: dict[Name, tuple[list[Name], dict[str, str]]] = {}
        self._files = {
            path.name: path
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.suffix in {".j2", ".yaml"}
        }

    def behind(self, *roots: Name) -> dict[str, str]:
        """Checksums of all that the definitions `roots` use, themselves included.

        Returns: by `module.name`, or by file name for a template or table of the package.

        Raises: KeyError for a root that does not exist. PipelineError for an import in a form that
            cannot be followed.
        """
        found: dict[Name, Unit] = {}
        files: dict[str, str] = {}
        pending = [*roots]
        for root in roots:
            self._module(root.module).units[root.name]
        while pending:
            name = pending.pop()
            pending += self._initialised_before(name.module)
            for unit_name, unit in self._units(name):
                if unit_name not in found:
                    found[unit_name] = unit
                    if unit_name not in self._used:
                        references = list(self._references(unit_name, unit))
                        self._used[unit_name] = references, self._files_named(unit)
                    names, named = self._used[unit_name]
                    pending += names
                    files |= named
        digests = {str(name): unit.digest for name, unit in found.items()}
        return dict(sorted((digests | files).items()))

    def assets(self) -> dict[str, Name]:
        """The functions that are decorated as assets in `defs`, by their names."""
        return {
            name.rpartition(":")[2]: Name(module, name)
            for module in self._module_names("defs")
            for name, unit in self._module(module).units.items()
            if ":" in name and _is_asset(unit.nodes[0])
        }

    def _module_names(self, package: str) -> list[str]:
        folder = self._folder / package
        return [f"{package}.{path.stem}" for path in sorted(folder.glob("*.py"))]

    def _module(self, name: str) -> Module:
        if name not in self._modules:
            path = self._folder.joinpath(*name.split("."))
            path = path.with_suffix(".py") if name in self._known else path / "__init__.py"
            text = path.read_text(encoding="utf-8")
            self._modules[name] = _parsed(text, name, self._known)
        return self._modules[name]

    def _initialised_before(self, module: str) -> list[Name]:
        """The statements of the packages that a module is in, which run before it."""
        folders = module.split(".")[:-1]
        packages = [".".join([*folders[:depth], "__init__"]) for depth in range(len(folders) + 1)]
        return [
            Name(package, SETUP)
            for package in packages
            if package in self._known and package != module
            if SETUP in self._module(package).units
        ]

    def _units(self, name: Name) -> Iterator[tuple[Name, Unit]]:
        """The units of a definition, with its module's other statements."""
        module = self._module(name.module)
        if name.name in module.units:
            yield name, module.units[name.name]
        for other, unit in module.units.items():
            if other == SETUP or unit.owner == name.name:
                yield Name(name.module, other), unit

    def _references(self, name: Name, unit: Unit) -> Iterator[Name]:
        module = self._module(name.module)
        imports = module.imports | _imports(unit.counted, self._known)
        attributes: dict[str, set[str]] = {}
        names: set[str] = set()
        looked_into: set[int] = set()
        for node in unit.counted:
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                attributes.setdefault(node.value.id, set()).add(node.attr)
                looked_into.add(id(node.value))
            if isinstance(node, ast.Name):
                names.add(node.id)
        passed_on = {
            node.id
            for node in unit.counted
            if isinstance(node, ast.Name) and id(node) not in looked_into
        }
        for used in names:
            if used in imports and not _neutral(imports[used][0]):
                source, imported = imports[used]
                if imported is not None:
                    yield from self._resolved(Name(source, imported))
                elif used in passed_on:
                    yield from self._all_of(source)
                else:
                    for attribute in attributes[used]:
                        yield from self._resolved(Name(source, attribute))
            if used in module.units and used != name.name and not _neutral(name.module):
                yield Name(name.module, used)

    def _all_of(self, module: str) -> Iterator[Name]:
        """Every definition of a module, where it cannot be told which of them are used."""
        yield from (Name(module, unit) for unit in self._module(module).units)

    def _resolved(self, name: Name) -> Iterator[Name]:
        """The definition itself, where a module passes on what it imports."""
        module = self._module(name.module)
        if name.name in module.units or any(u.owner == name.name for u in module.units.values()):
            yield name
        elif name.name in module.imports:
            source, imported = module.imports[name.name]
            if _neutral(source):
                return
            if imported is None:
                yield from self._all_of(source)
            else:
                yield from self._resolved(Name(source, imported))
        elif f"{name.module}.{name.name}" in self._known:
            yield from self._all_of(f"{name.module}.{name.name}")
        elif "__getattr__" in module.units:
            yield from self._all_of(name.module)

    def _files_named(self, unit: Unit) -> dict[str, str]:
        """Checksums of the package's other files that the code, or one of them, names."""
        texts = [
            node.value
            for node in unit.counted
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
        found: dict[str, str] = {}
        while texts:
            file = self._files.get(texts.pop())
            if file and file.name not in found:
                content = file.read_text(encoding="utf-8")
                found[file.name] = hashlib.md5(content.encode(), usedforsecurity=False).hexdigest()
                texts += re.findall(r"['\"]([\w.]+)['\"]", content)
        return found


@lru_cache(maxsize=256)
def _parsed(text: str, name: str, known: frozenset[str]) -> Module:
    """A module from its source.

    Args:
        known: the modules of the package.
    """
    module, tree = Module(), ast.parse(text)
    for node in ast.walk(tree):
        _check_form(node, name)
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            module.imports |= _imports([node], known)
        elif _is_docstring(node):
            continue
        elif (defined := _definitions(node, name)) is not None:
            for key, unit in defined.items():
                if key in module.units:  # both count: the second may be made from the first
                    unit.nodes = [*module.units[key].nodes, *unit.nodes]
                module.units[key] = unit
        else:
            module.units.setdefault(SETUP, Unit([])).nodes.append(node)
            module.imports |= _imports(ast.walk(node), known)
    return module


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


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_asset(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef) and any(
        "dg.asset" in ast.unparse(decorator).split("(")[0] for decorator in node.decorator_list
    )


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


def _imports(nodes: Iterable[ast.AST], known: frozenset[str]) -> dict[str, tuple[str, str | None]]:
    """This package's modules and names that some of the nodes import, by what they call them."""
    found: dict[str, tuple[str, str | None]] = {}
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


def _neutral(module: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in NEUTRAL)


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
    for name, value in ast.iter_fields(node):
        if name in {"ctx", "kind", "type_comment", "type_params"} or value is None or value == []:
            continue  # differ between Python versions, or say nothing
        if name == "decorator_list" and _is_asset(node):
            continue  # the asset's descriptions; what it makes is in its body
        if name in {"args", "keywords"} and _only_tells(node):
            continue
        if isinstance(node, ast.Raise) and isinstance(value, ast.Call):
            yield name, value.func
        elif name == "body" and isinstance(value, list):
            yield name, [statement for statement in value if not _is_docstring(statement)]
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
