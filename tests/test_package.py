"""The package as a whole: its names, what an import costs, and which module may import which."""

import ast
import importlib.metadata
import inspect
import pathlib
import re
import subprocess
import sys

import pytest

import fastconv as fc

PACKAGE = pathlib.Path(fc.__file__).parent
ROOT = PACKAGE.parent
OPERATIONS = [name for name in fc.__all__ if name.islower()]


def test_version_is_the_installed_one():
    assert importlib.metadata.version("fastconv") == fc.__version__


def test_type_information_is_shipped():
    assert (PACKAGE / "py.typed").exists()


def test_names_are_sorted_and_there():
    assert fc.__all__ == sorted(fc.__all__)
    assert all(hasattr(fc, name) for name in fc.__all__)


@pytest.mark.parametrize("name", OPERATIONS)
def test_docstring_has_every_section(name):
    text = inspect.getdoc(getattr(fc, name))
    for section in ("Parameters", "Returns", "Raises", "Examples"):
        assert f"\n{section}\n{'-' * len(section)}\n" in text, f"{name} lacks {section}"


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_parameter_is_documented_in_its_order(name):
    """Those of one rank may share an entry: ``stride, padding : as in conv2d``, or a line of names alone."""
    function = getattr(fc, name)
    section = re.search(r"\nParameters\n-+\n(.*?)\n\n\w+\n-+\n", inspect.getdoc(function), re.DOTALL)
    entries = [line.partition(" : ") for line in section[1].splitlines() if line and not line.startswith(" ")]
    assert [each for names, *_ in entries for each in names.split(", ")] == list(inspect.signature(function).parameters)
    assert all(kind for names, _, kind in entries if "," not in names), "an entry without a type"


@pytest.mark.skipif(not (ROOT / "docs").exists(), reason="the documentation is not beside the package")
def test_documentation_lists_every_name():
    listed = {line.strip() for line in (ROOT / "docs" / "api.rst").read_text().splitlines()}
    assert set(fc.__all__) <= listed


def test_every_forward_has_a_backward():
    forward = [name for name in OPERATIONS if "_backward" not in name and name not in ("pack", "precompile")]
    backward = {name: f"{name.removeprefix('adaptive_') if 'max' in name else name}_backward" for name in forward}
    assert not [name for name in forward if backward[name] not in OPERATIONS]


def test_import_brings_numba_and_nothing_else():
    script = """
import sys
import numba
before = set(sys.modules)
import fastconv
brought = {name.partition(".")[0] for name in set(sys.modules) - before}
cuda = [name for name in set(sys.modules) - before if name.startswith("numba.cuda")]
print(sorted(brought - sys.stdlib_module_names))
print(cuda)
"""
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=ROOT)
    brought, cuda = done.stdout.splitlines()
    assert set(ast.literal_eval(brought)) <= {"fastconv", "numba", "numpy", "llvmlite"}
    assert cuda == "[]"


def imports(path):
    """Whole names of the modules that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_only_the_backend_imports_the_compiler():
    for path in (*PACKAGE.glob("*.py"), *PACKAGE.glob("_checks/*.py")):
        assert not [name for name in imports(path) if name.split(".")[0] in ("numba", "llvmlite")], path.name


def test_the_backend_imports_nothing_from_above():
    allowed = ("fastconv.cpu.", "fastconv._window.", "fastconv.cpu")
    for path in (PACKAGE / "cpu").glob("*.py"):
        ours = [name for name in imports(path) if name.startswith("fastconv")]
        assert not [name for name in ours if not name.startswith(allowed)], path.name


def test_one_file_imports_numba_cuda():
    def does(path):
        return any(name.startswith("numba.cuda") for name in imports(path)) or '"numba.cuda' in path.read_text()

    assert [path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if does(path)] == ["cuda/_jit.py"]
