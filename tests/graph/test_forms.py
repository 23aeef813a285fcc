"""However a function reaches what it uses, a change of that is found, or the form is refused."""

import re

import pytest

from cifar_pipeline.errors import PipelineError
from cifar_pipeline.graph.code import Code

PACKAGE = {
    "__init__.py": "",
    "defs/assets.py": "import dagster as dg\n"
    "def build():\n"
    "    @dg.asset\n"
    "    def thing(context):\n"
    "        from cifar_pipeline.work import make\n"
    "        return make(1)\n"
    "    return thing\n",
    "other.py": "def f(x):\n    return x\n\nclass Base:\n    def m(self):\n        return x\n",
    "passing.py": "from cifar_pipeline.other import Base, f\n",
    "lazy.py": "def __getattr__(name):\n    return x\n",
    "sub/__init__.py": "VALUE = x\n",
    "sub/inner.py": "def h():\n    return x\n",
    "starting/__init__.py": "import os\nos.environ['A'] = x\n",
    "starting/inner.py": "def h():\n    return 1\n",
}
IMPORT = "from cifar_pipeline.other import Base, f\n"
MODULE = "from cifar_pipeline import other\n"

FORMS = [
    ("a call", IMPORT + "def make(s): return f(s)"),
    (
        "a local import",
        "def make(s):\n    from cifar_pipeline.other import f as g\n    return g(s)",
    ),
    ("a module's attribute", MODULE + "def make(s): return other.f(s)"),
    ("a name passed on", "from cifar_pipeline import passing\ndef make(s): return passing.f(s)"),
    ("a module looked into by name", MODULE + "def make(s): return getattr(other, 'f')(s)"),
    ("a module in a table", MODULE + "T = {'o': other}\ndef make(s): return T['o'].f(s)"),
    ("an import in a try", f"try:\n    {IMPORT}except ImportError:\n    raise\ndef make(s): f(s)"),
    ("an import in an if", f"import os\nif os.name:\n    {MODULE}def make(s): return other.f(s)"),
    ("a table of functions", IMPORT + "T = {'f': (f,)}\ndef make(s): return T['f'][0](s)"),
    ("a table that is filled", IMPORT + "T = {}\nT['f'] = f\ndef make(s): return T['f'](s)"),
    ("a method that is set", IMPORT + "class A: pass\nA.go = f\ndef make(s): return A.go(s)"),
    ("a list that is extended", IMPORT + "T = []\nT += [f]\ndef make(s): return T"),
    ("a wrapped function", IMPORT + "def make(s): return 1\nmake = f(make)"),
    (
        "a partial",
        IMPORT + "from functools import partial\nP = partial(f)\ndef make(s): return P()",
    ),
    ("a default", IMPORT + "def make(s, by=f): return by(s)"),
    ("a decorator", IMPORT + "@f\ndef make(s): return s"),
    ("a base class", IMPORT + "class A(Base): pass\ndef make(s): return A().m()"),
    ("a module's base class", MODULE + "class A(other.Base): pass\ndef make(s): return A().m()"),
    ("a class attribute", IMPORT + "class A:\n    go = f\ndef make(s): return A.go(s)"),
    ("a lambda", IMPORT + "T = {'a': lambda x: f(x)}\ndef make(s): return T['a'](s)"),
    ("a pattern", IMPORT + "def make(s):\n    match s:\n        case Base(): return 1"),
    ("a walrus", IMPORT + "if (Y := f(1)): pass\ndef make(s): return Y"),
    ("a coroutine", IMPORT + "async def go(): return f(1)\ndef make(s): return go()"),
    ("a loop over functions", IMPORT + "for q in [f]: R = q\ndef make(s): return R"),
    ("a name that is deleted", IMPORT + "X = f\ndel f\ndef make(s): return X"),
    ("a module that makes names", "from cifar_pipeline import lazy\ndef make(s): return lazy.any"),
    ("a package's constant", "from cifar_pipeline.sub import VALUE\ndef make(s): return VALUE"),
    ("a package", "from cifar_pipeline import sub\ndef make(s): return sub.inner.h()"),
    (
        "what a package starts",
        "from cifar_pipeline.starting.inner import h\ndef make(s): return h()",
    ),
]


def behind(folder, work, value):
    for name, text in {**PACKAGE, "work.py": f"{work}\n"}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(re.sub(r"(return|=) x$", rf"\1 {value}", text, flags=re.M))
    code = Code(folder)
    return code.behind(code.assets()["thing"])


@pytest.mark.parametrize("work", [work for _, work in FORMS], ids=[name for name, _ in FORMS])
def test_a_change_is_found_in_whatever_form_it_is_used(tmp_path, work):
    assert behind(tmp_path, work, "1") != behind(tmp_path, work, "2")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("def make(s): return 1\nmake = str(make)", "def make(s): return 2\nmake = str(make)"),
        ("X = 1\nX = X + 1\ndef make(s): return X", "X = 2\nX = X + 1\ndef make(s): return X"),
        ("T = {}\nT['a'] = 1\ndef make(s): return T", "T = {}\nT['a'] = 2\ndef make(s): return T"),
        (
            IMPORT + "f = str(f)\ndef make(s): return f(s)",
            IMPORT + "f = int(f)\ndef make(s): return f(s)",
        ),
    ],
)
def test_what_is_defined_twice_counts_twice(tmp_path, before, after):
    assert behind(tmp_path, before, "1") != behind(tmp_path, after, "1")


@pytest.mark.parametrize(
    "statement",
    [
        "import cifar_pipeline.other",
        "import cifar_pipeline.other as o",
        "from . import other",
        "from .other import f",
        "from cifar_pipeline.other import *",
    ],
)
def test_a_form_that_hides_what_is_used_is_refused(tmp_path, statement):
    with pytest.raises(PipelineError, match=r"work\.py, line 1: `.*` hides .* write it as `from"):
        behind(tmp_path, f"{statement}\ndef make(s): return 1", "1")
