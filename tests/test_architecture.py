"""Imports point one way, and captioning stays free of what only training needs."""

import ast
import subprocess
import sys

import pytest
from conftest import EXAMPLES, ROOT

SOURCE = ROOT / "src" / "showtell"
HEAVY = ("keras", "tensorflow", "h5py", "jax", "torch", "onnx", "tf2onnx", "tensorboardX")
SCALING = ("ray", "pyarrow", "fsspec")
SERVING = ("fastapi", "starlette", "uvicorn", "python_multipart", "prometheus_client")
# A module may import those of its own layer and of the layers after it.
LAYERS = [
    {"cli", "__main__"},
    {"train", "server", "scale"},
    {
        "calibration",
        "evaluation",
        "gallery",
        "outputs",
        "captioner",
        "attention_map",
        "charts",
        "drawing",
        "tutorial_data",
    },
    {"bundle", "dataset"},
    {
        "search",
        "confidence",
        "ensemble",
        "features",
        "metrics",
        "metrics_cider",
        "metrics_meteor",
        "metrics_tokenizer",
        "captions",
        "sessions",
        "recipe",
        "encoder",
    },
    {"vocabulary", "images", "progress", "stopping", "locks", "caption_formats", "alt_text", "fonts"},
    {"errors", "files", "parallel", "quiet", "typed", "__init__"},
]


def layer_of(module):
    return next(number for number, layer in enumerate(LAYERS) if module in layer)


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module, alias.name) for alias in node.names)


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_one_way(path):
    first = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    for module, name in imports_of(path):
        if first != "train" and module.split(".")[0] in HEAVY:
            pytest.fail(f"{path.name} imports {module}")
        if first != "scale" and module.split(".")[0] in SCALING:
            pytest.fail(f"{path.name} imports {module}")
        if first != "server" and module.split(".")[0] in SERVING:
            pytest.fail(f"{path.name} imports {module}")
        if module.split(".")[0] != "showtell" or first == "__init__":
            continue
        target = module.split(".")[1] if "." in module else name
        target = "__init__" if target == "__version__" else target
        assert layer_of(first) <= layer_of(target), f"{path.name} imports {target}"
        assert not {first, target} < {"train", "server", "scale"} or first == target, f"{path.name} imports {target}"
        if target == "captioner" and first == "train":
            assert path.name == "export.py", "within train, export alone may import the captioner"


def loaded_after(code):
    program = f"import sys\n{code}\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    *_, packages, modules = done.stdout.splitlines()
    return set(packages.split()), set(modules.split())


def test_captioning_loads_nothing_of_training():
    packages, modules = loaded_after(
        f"from showtell import Captioner\nprint(Captioner.load()({str(EXAMPLES / '000000126107.jpg')!r}).text)"
    )
    assert not packages & {*HEAVY, *SERVING, *SCALING}
    assert not any(name.startswith("showtell.train") for name in modules)


def test_the_command_line_captions_without_what_training_needs():
    packages, modules = loaded_after(
        f"from showtell.cli import app\napp(['caption', {str(EXAMPLES / '000000126107.jpg')!r}], standalone_mode=False)"
    )
    assert not packages & {*HEAVY, *SERVING, *SCALING}
    assert not any(name.startswith("showtell.train") for name in modules)


def test_importing_the_package_loads_nothing_at_all():
    packages, _ = loaded_after("import showtell")
    assert not packages & {"numpy", "onnxruntime", "PIL", "tokenizers", "typer"}
