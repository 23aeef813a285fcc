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
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cifar_pipeline.graph.parsing import SETUP, Module, imports_of, parsed
from cifar_pipeline.graph.syntax import Unit, is_asset

NEUTRAL = (
    *("cli", "commands", "definitions", "defs", "graph"),  # what calls the stages
    *("errors", "saying", "provenance"),  # messages, and records of the machine
    *("settings.params", "settings.reading", "settings.editing", "settings.validation"),
    "paths",  # where artefacts are, not what they are
)
"""Modules that decide no artefact: they are not followed. What the settings say counts by its
values (`graph/plan.py`), not by the code that reads them."""


class Name(NamedTuple):
    """A definition: the module, relative to the package, and the name in it."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


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
            if ":" in name and is_asset(unit.nodes[0])
        }

    def _module_names(self, package: str) -> list[str]:
        folder = self._folder / package
        return [f"{package}.{path.stem}" for path in sorted(folder.glob("*.py"))]

    def _module(self, name: str) -> Module:
        if name not in self._modules:
            path = self._folder.joinpath(*name.split("."))
            path = path.with_suffix(".py") if name in self._known else path / "__init__.py"
            text = path.read_text(encoding="utf-8")
            self._modules[name] = parsed(text, name, self._known)
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
        imports = module.imports | imports_of(unit.counted, self._known)
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


def _neutral(module: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in NEUTRAL)
