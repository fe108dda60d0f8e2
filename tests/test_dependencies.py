"""The dependencies in pyproject.toml are the packages that the source imports."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions

import pytest
from helpers import ROOT

SOURCE = ROOT / "src" / "showtell"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# The extras whose packages a part of the source may import.
EXTRAS = {
    "data": ["train"],
    "evaluation": ["train"],
    "images": ["heic"],
    "metrics": ["meteor"],
    "ray": ["ray"],
    "server": ["serve"],
    "training": ["train"],
}
NOT_IMPORTED = {
    "fastapi-swagger",  # the server sends its files of Swagger UI
    "tf2onnx",  # Keras imports it to export a model
}
NAMES = {"tensorflow": "tensorflow"}  # of the two distributions with this module, either may be installed
DISTRIBUTIONS = packages_distributions()


def normalised(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(extra=None):
    """Return the names of the packages in the dependencies, or in an extra."""
    requirements = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    return {normalised(re.match(r"[\w.-]+", requirement).group()) for requirement in requirements}


def imported(part):
    """Yield (package, extra) for each third-party import of a file or folder. The extra is that of `import_extra`."""
    for path in part.rglob("*.py") if part.is_dir() else [part]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            extra = None
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module]
            elif isinstance(node, ast.Call) and getattr(node.func, "id", None) == "import_extra":
                first, _, last = node.args
                modules = [first.value] if isinstance(first, ast.Constant) else []
                extra = last.value
            else:
                continue
            for module in modules:
                package = module.partition(".")[0]
                if package not in sys.stdlib_module_names and package != "showtell":
                    name = NAMES.get(package) or DISTRIBUTIONS.get(package, [package])[0]
                    yield normalised(name), extra


PARTS = sorted(path for path in SOURCE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists())


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_every_imported_package_is_declared(part):
    extras = EXTRAS.get(part.name, [])
    allowed = declared().union(*map(declared, extras))
    for package, extra in imported(part):
        assert package in allowed, f"{package} is not declared in the dependencies or in {extras}"
        assert extra is None or (extra in extras and package in declared(extra)), (package, extra)


def test_every_declared_package_is_imported():
    used = {package for part in PARTS for package, _ in imported(part)} | {"tensorflow-cpu"} | NOT_IMPORTED
    groups = [None, *(extra for extras in EXTRAS.values() for extra in extras)]
    assert set().union(*map(declared, groups)) <= used
