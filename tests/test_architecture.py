"""Imports point downwards only, and captioning does not import training code."""

import ast
import subprocess
import sys

import pytest
from helpers import EXAMPLES, ROOT

SOURCE = ROOT / "src" / "showtell"
# A module may import from its own folder and from the lines below, never from its own line or above.
LAYERS = [
    {"__main__"},
    {"cli"},
    {"api"},
    {"training", "server", "ray"},
    {"evaluation"},
    {"outputs"},
    {"drawing", "alt_text"},
    {"inference", "data"},
    {"encoder"},
    {"vocabulary", "images"},
    {"metrics", "recipe"},
    {"utils"},
    {"errors"},
]
# Packages that only one folder may import at the top of a module.
OWNERS = {
    **dict.fromkeys(("keras", "tensorflow", "jax", "onnx", "tf2onnx", "tensorboardX"), "training"),
    **dict.fromkeys(("ray", "pyarrow", "fsspec"), "ray"),
    **dict.fromkeys(("fastapi", "starlette", "pydantic", "uvicorn", "prometheus_client"), "server"),
}
NOT_FOR_CAPTIONING = {*OWNERS, "h5py", "torch", "sklearn", "matplotlib"} - {"pydantic"}  # Typer loads it


def layer_of(part):
    return next(number for number, layer in enumerate(LAYERS) if part in layer)


def imports_of(path):
    """Yield the modules that a file imports, showtell's own down to the part below the package."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "showtell":
            yield from (f"showtell.{alias.name}" for alias in node.names if alias.name != "__version__")
        elif isinstance(node, ast.ImportFrom):
            yield node.module


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_one_way(path):
    part = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    for module in imports_of(path):
        package, _, rest = module.partition(".")
        assert OWNERS.get(package, part) == part, f"{path.name} imports {module}"
        if package == "showtell" and part != "__init__":
            target = rest.partition(".")[0]
            assert target == part or layer_of(part) < layer_of(target), f"{part} imports {target}"


def loaded_after(code):
    program = f"import sys\n{code}\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    *_, packages, modules = done.stdout.splitlines()
    return set(packages.split()), set(modules.split())


@pytest.mark.parametrize(
    "program",
    [
        "from showtell import Captioner\nprint(Captioner.load()({photo!r}).text)",
        "from showtell.cli import app\napp(['caption', {photo!r}], standalone_mode=False)",
    ],
    ids=["library", "command-line"],
)
def test_captioning_loads_nothing_of_training(program):
    packages, modules = loaded_after(program.format(photo=str(EXAMPLES / "000000126107.jpg")))
    assert not packages & NOT_FOR_CAPTIONING
    assert not any(name.startswith(("showtell.training", "showtell.data")) for name in modules)


def test_importing_the_package_loads_nothing_at_all():
    packages, _ = loaded_after("import showtell")
    assert not packages & {"numpy", "onnxruntime", "PIL", "tokenizers", "typer"}
