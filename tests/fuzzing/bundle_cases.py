"""Bundles whose structure is damaged: graphs, tensors, states, manifest, tokenizer and calibration.

All checksums are right, so that the damage reaches ONNX Runtime, the tokenizer and the search.
"""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import zoo
from byte_mutator import alter_json
from helpers import LOOKING_GRAPHS, save_looking_bundle
from onnx import TensorProto, helper, numpy_helper
from runner import Case

from showtell.errors import ImageError
from showtell.inference import model_check
from showtell.inference.bundle import Bundle
from showtell.inference.captioner import Captioner
from showtell.inference.confidence import Calibration, FeatureClusters
from showtell.metrics import DocumentFrequencies
from showtell.vocabulary import Vocabulary

# A decoder with a recurrent state. It captions every image "a dog", and its state counts the tokens.
RECURRENT_GRAPHS = {
    **LOOKING_GRAPHS,
    "decoder_step.onnx": LOOKING_GRAPHS["decoder_step.onnx"]
    .replace("float[M, 4] cells)", "float[M, 4] cells, float[N, 3] hidden)")
    .replace("float[N, 4] next_attention)", "float[N, 4] next_attention, float[N, 3] next_hidden)")
    .replace("int64[1] second", "float[1] one = {1}, int64[1] second")
    .replace("signs = Gather", "next_hidden = Add (hidden, one)\n signs = Gather"),
}
DEFAULT_SHARE = 0.05  # of the cases, because the shipped bundle is slow to load
MODEL_SHARE = 0.8  # of the faults
SIZES = (-(2**31), -2, -1, 0, 1, 2, 3, 4, 6, 8, 64, 1000, 10**5, 10**7, 2**31, 10**10, 2**62)
VALUES = (np.nan, np.inf, -np.inf, 0.0, -1.0, 1e-30, 1e6, 1e30)
TYPES = (
    TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.INT32, TensorProto.INT64,
    TensorProto.UINT8, TensorProto.INT8, TensorProto.BOOL, TensorProto.STRING,
)  # fmt: skip
FORBIDDEN = """
    Loop If Scan Resize NonZero RandomUniform SequenceConstruct Einsum LSTM StringNormalizer DepthToSpace ConvTranspose
"""
OPERATORS = [*FORBIDDEN.split(), *sorted(name.decode() for name in model_check.OPERATORS)]

_Model = onnx.ModelProto
_Generator = np.random.Generator


def bundle_case(folder: Path) -> Case:
    """Caption two images with bundles that have one or more faults."""
    graphs = {"looking": LOOKING_GRAPHS, "recurrent": RECURRENT_GRAPHS}
    small = [_with_optional_files(Bundle.load(save_looking_bundle(folder / name, graphs[name]))) for name in graphs]
    default = Bundle.load("default")
    images = [zoo.encode(zoo.photo(96)), zoo.encode(zoo.photo(64))]

    def case(generator: _Generator) -> None:
        shutil.rmtree(folder / "damaged", ignore_errors=True)
        bundle = default if generator.random() < DEFAULT_SHARE else small[generator.integers(len(small))]
        for _ in range(int(generator.geometric(0.6))):
            bundle = _damage(bundle, generator)
        bundle.save(folder / "damaged")
        if generator.random() < 0.1:
            _damage_manifest(folder / "damaged" / "bundle.json", generator)
        loaded = Bundle.load(folder / "damaged")
        assert loaded.document_frequencies
        for result in Captioner([loaded]).caption(images):
            assert isinstance(result.error, ImageError) or _is_valid(result.captions[0])

    return case


def _is_valid(caption: Any) -> bool:
    in_range = caption.confidence is None or 0 <= caption.confidence <= 1
    return caption.text.isprintable() and np.isfinite(caption.log_prob) and in_range


def _with_optional_files(bundle: Bundle) -> Bundle:
    clusters = FeatureClusters(np.zeros(bundle.encoder.channels), np.eye(bundle.encoder.channels))
    calibration = Calibration(50.0, clusters, np.zeros(3), distance_threshold=0.4, decay=0.1)
    files = {
        "calibration.json": calibration.to_json().encode(),
        "document_frequencies.json": DocumentFrequencies(3, {"a": 2, "a dog": 1}).to_json().encode(),
    }
    return replace(bundle, files={**bundle.files, **files})


def _damage(bundle: Bundle, generator: _Generator) -> Bundle:
    """Return a bundle with one fault in one of its files."""
    models = generator.random() < MODEL_SHARE
    names = [name for name in bundle.files if name.endswith(".onnx" if models else ".json")]
    name = _pick(sorted(names), generator)
    content = bundle.files[name]
    if name == "vocabulary.json" and generator.random() < 0.3:
        kind = _pick(["word", "bpe", "char"], generator)
        content = Vocabulary.build(["a dog", "dogs"], size=2, kind=kind).to_json().encode()
    if name.endswith(".onnx"):
        try:
            model = onnx.load_from_string(content)
        except Exception:  # an earlier fault cannot be parsed
            return bundle
        _pick(MUTATORS, generator)(model, generator)
        damaged = model.SerializeToString()
    else:
        damaged = alter_json(content, generator)
    return replace(bundle, files={**bundle.files, name: damaged})


def _damage_manifest(path: Path, generator: _Generator) -> None:
    path.write_bytes(alter_json(path.read_bytes(), generator))


def _pick(options: Any, generator: _Generator) -> Any:
    return options[generator.integers(len(options))]


def _sizes(generator: _Generator) -> list[int]:
    return [int(_pick(SIZES, generator)) for _ in range(int(generator.integers(0, 5)))]


def _names(model: _Model) -> list[str]:
    graph = model.graph
    made = [name for node in graph.node for name in node.output]
    return [*(value.name for value in graph.input), *(tensor.name for tensor in graph.initializer), *made] or ["x"]


# --- Mutators: each changes a model in place --------------------------------------------------------------------------


def _change_weight_shape(model: _Model, generator: _Generator) -> None:
    if model.graph.initializer:
        tensor = _pick(model.graph.initializer, generator)
        tensor.dims[:] = _sizes(generator)


def _change_weight(model: _Model, generator: _Generator) -> None:
    """Replace a weight by an array of other values, another shape or another type."""
    if not model.graph.initializer:
        return
    tensor = _pick(model.graph.initializer, generator)
    try:
        array = numpy_helper.to_array(tensor).copy()
    except Exception:  # an earlier fault has damaged it
        return
    kind = generator.integers(4)
    with np.errstate(all="ignore"):
        if kind == 0 and array.size:
            value = _pick(SIZES if array.dtype.kind in "iu" else VALUES, generator)
            array.reshape(-1)[generator.integers(array.size)] = np.array(value).astype(array.dtype)
        elif kind == 1:
            array = np.resize(array, [int(generator.integers(0, 9)) for _ in range(array.ndim)])
        elif kind == 2:
            array = np.stack([array, array])
        else:
            array = array.astype(_pick([np.float32, np.float64, np.int64, np.int32, np.uint8, bool], generator))
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def _change_weight_type(model: _Model, generator: _Generator) -> None:
    if model.graph.initializer:
        _pick(model.graph.initializer, generator).data_type = int(generator.integers(0, 30))


def _make_external(model: _Model, generator: _Generator) -> None:
    if model.graph.initializer:
        tensor = _pick(model.graph.initializer, generator)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=_pick(["/dev/zero", "/etc/passwd", "encoder.onnx"], generator))


def _make_sparse(model: _Model, generator: _Generator) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "sparse")
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "indices")
    model.graph.sparse_initializer.add(values=values, indices=indices, dims=_sizes(generator))


def _values(model: _Model) -> Any:
    return [*model.graph.input, *model.graph.output]


def _change_declared_shape(model: _Model, generator: _Generator) -> None:
    if not _values(model):
        return
    shape = _pick(_values(model), generator).type.tensor_type.shape
    if generator.random() < 0.5 or not shape.dim:
        del shape.dim[:]
        for size in _sizes(generator):
            shape.dim.add(dim_value=size)
        return
    axis = _pick(shape.dim, generator)
    if generator.random() < 0.5:
        axis.dim_param = _pick(["N", "rows", "", "\n\x1b[2J"], generator)
    else:
        axis.dim_value = _pick(SIZES, generator)


def _change_declared_type(model: _Model, generator: _Generator) -> None:
    if _values(model):
        _pick(_values(model), generator).type.tensor_type.elem_type = _pick(TYPES, generator)


def _rename_value(model: _Model, generator: _Generator) -> None:
    """Rename an input or output, everywhere or only in the declaration."""
    if not _values(model):
        return
    value = _pick(_values(model), generator)
    old, new = value.name, _pick(["", "next_", "next_x", "tokens", "images", "x\n\x1b", "image", "features"], generator)
    value.name = new
    if generator.random() < 0.7:
        for node in model.graph.node:
            node.input[:] = [new if name == old else name for name in node.input]
            node.output[:] = [new if name == old else name for name in node.output]


def _remove_value(model: _Model, generator: _Generator) -> None:
    values = _pick([model.graph.input, model.graph.output], generator)
    if values:
        del values[generator.integers(len(values))]


def _add_state(model: _Model, generator: _Generator) -> None:
    """Add a recurrent state; its next value may have other rows, another rank or another type."""
    shape = ["N", *map(abs, _sizes(generator)[:2])] if generator.random() < 0.5 else ["N", 3]
    kind = _pick(TYPES, generator) if generator.random() < 0.2 else TensorProto.FLOAT
    name = _pick(["state", "attention", "tokens", "next_state"], generator)
    model.graph.input.append(helper.make_tensor_value_info(name, kind, shape))
    model.graph.output.append(helper.make_tensor_value_info(f"next_{name}", kind, shape))
    inputs = [name, _pick(_names(model), generator)] if generator.random() < 0.3 else [name, name]
    operator = _pick(["Add", "Concat", "MatMul", "Where"], generator)
    attributes = {"axis": int(generator.integers(-3, 3))} if operator == "Concat" else {}
    model.graph.node.append(helper.make_node(operator, inputs, [f"next_{name}"], **attributes))


def _insert(
    model: _Model, generator: _Generator, operator: str, weights: dict[str, np.ndarray], **attributes: Any
) -> None:
    """Insert a node behind a tensor, often an output."""
    makers = [node for node in model.graph.node if node.output]
    if not makers:
        return
    outputs = {value.name for value in model.graph.output}
    last = [node for node in makers if outputs & set(node.output)]
    maker = _pick(last if last and generator.random() < 0.7 else makers, generator)
    place = int(generator.integers(len(maker.output)))
    old, number = maker.output[place], len(model.graph.node)
    names = {name: f"{name}{number}" for name in weights}
    maker.output[place] = f"old{number}"
    for name, array in weights.items():
        model.graph.initializer.append(numpy_helper.from_array(array, names[name]))
    model.graph.node.append(helper.make_node(operator, [f"old{number}", *names.values()], [old], **attributes))


def _change_rows(model: _Model, generator: _Generator) -> None:
    """Make a tensor with a row more, a row less, twice the rows, another order of its axes or another rank."""
    ends = {"starts": np.array([1]), "ends": np.array([2**31]), "axes": np.array([0])}
    zeros, axis = np.array([0]), int(generator.integers(0, 3))
    match generator.integers(6):
        case 0:
            _insert(model, generator, "Slice", {**ends, "axes": np.array([axis])})
        case 1:
            _insert(model, generator, "Tile", {"repeats": np.array([2, *[1] * axis])})
        case 2:
            _insert(model, generator, "Transpose", {})
        case 3:
            _insert(model, generator, "Unsqueeze", {"axes": np.array([axis])})
        case 4:
            _insert(model, generator, "ReduceSum", {"axes": zeros}, keepdims=int(generator.integers(2)))
        case 5:
            _insert(model, generator, "Reshape", {"shape": np.array(_sizes(generator), np.int64)})


def _inflate(model: _Model, generator: _Generator) -> None:
    """Insert an operator that makes a large tensor."""
    sizes = np.array([abs(size) for size in _sizes(generator)], np.int64)
    match generator.integers(6):
        case 0:
            _insert(model, generator, "Expand", {"shape": sizes})
        case 1:
            _insert(model, generator, "Tile", {"repeats": sizes})
        case 2:
            _insert(model, generator, "Pad", {"pads": np.array([*sizes, *sizes], np.int64)})
        case 3:
            wide = np.ones((1, int(min(20_000, *sizes, 20_000))), np.float32)
            _insert(model, generator, "MatMul", {"wide": wide})
        case 4:
            _add_node(model, "ConstantOfShape", sizes)
        case 5:
            _add_node(model, "Range", *(np.array(_pick(SIZES, generator)) for _ in range(3)))


def _add_node(model: _Model, operator: str, *arrays: np.ndarray) -> None:
    """Add a node with constant inputs, and add its sum to the first output."""
    number = len(model.graph.node)
    names = [f"constant{number}_{place}" for place in range(len(arrays))]
    for name, array in zip(names, arrays, strict=True):
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    large, total = f"large{number}", f"total{number}"
    model.graph.node.append(helper.make_node(operator, names, [large]))
    model.graph.node.append(helper.make_node("ReduceMax", [large], [total], keepdims=0))
    if model.graph.output:
        model.graph.output.append(helper.make_tensor_value_info(total, TensorProto.FLOAT, []))


def _with_nodes(change: Callable[[_Model, _Generator], None]) -> Callable[[_Model, _Generator], None]:
    def mutator(model: _Model, generator: _Generator) -> None:
        if model.graph.node:
            change(model, generator)

    return mutator


@_with_nodes
def _swap_nodes(model: _Model, generator: _Generator) -> None:
    first, second = _pick(model.graph.node, generator), _pick(model.graph.node, generator)
    copy = onnx.NodeProto()
    copy.CopyFrom(first)
    first.CopyFrom(second)
    second.CopyFrom(copy)


@_with_nodes
def _duplicate_node(model: _Model, generator: _Generator) -> None:
    model.graph.node.add().CopyFrom(_pick(model.graph.node, generator))


@_with_nodes
def _delete_node(model: _Model, generator: _Generator) -> None:
    del model.graph.node[generator.integers(len(model.graph.node))]


@_with_nodes
def _change_operator(model: _Model, generator: _Generator) -> None:
    node = _pick(model.graph.node, generator)
    node.op_type = _pick(OPERATORS, generator)
    if generator.random() < 0.1:
        node.domain = _pick(["com.microsoft", "ai.onnx.ml", "ai.onnx"], generator)


@_with_nodes
def _change_input(model: _Model, generator: _Generator) -> None:
    node = _pick(model.graph.node, generator)
    names = [*node.input]
    match generator.integers(3):
        case 0 if names:
            names[generator.integers(len(names))] = _pick([*_names(model), ""], generator)
        case 1:
            names.append(_pick(_names(model), generator))
        case _:
            generator.shuffle(names)
    node.input[:] = names


@_with_nodes
def _change_attribute(model: _Model, generator: _Generator) -> None:
    nodes = [node for node in model.graph.node if node.attribute]
    node = _pick(nodes or model.graph.node, generator)
    if not node.attribute or generator.random() < 0.3:
        name = _pick(["axis", "axes", "perm", "to", "keepdims", "group", "mode", "start", "end"], generator)
        node.attribute.add(name=name, type=onnx.AttributeProto.INT, i=_pick(SIZES, generator))
        return
    attribute = _pick(node.attribute, generator)
    if attribute.ints:
        attribute.ints[generator.integers(len(attribute.ints))] = _pick(SIZES, generator)
    elif attribute.type == onnx.AttributeProto.INT:
        attribute.i = _pick(SIZES, generator)
    elif generator.random() < 0.5:
        attribute.ints[:] = _sizes(generator)
        attribute.type = onnx.AttributeProto.INTS
    else:
        attribute.f = _pick(VALUES, generator)


@_with_nodes
def _add_subgraph(model: _Model, generator: _Generator) -> None:
    """Give a node a graph, as `Loop` and `If` have."""
    body = onnx.AttributeProto(name="body", type=onnx.AttributeProto.GRAPH)
    body.g.CopyFrom(model.graph)  # not into the graph itself, which would crash protobuf
    _pick(model.graph.node, generator).attribute.append(body)


def _change_versions(model: _Model, generator: _Generator) -> None:
    model.ir_version = _pick([0, 1, 3, 4, 10, 13, 1000], generator)
    for entry in model.opset_import:
        if generator.random() < 0.5:
            entry.version = int(_pick([-1, 0, 1, 7, 11, 13, 18, 20, 22, 24, 1000], generator))


def _add_function(model: _Model, generator: _Generator) -> None:
    function = model.functions.add(name=_pick(OPERATORS, generator), domain=_pick(["", "custom"], generator))
    function.node.extend(model.graph.node)


def _add_forbidden(model: _Model, generator: _Generator) -> None:
    _pick([_make_external, _make_sparse, _add_subgraph, _add_function], generator)(model, generator)


MUTATORS: list[Callable[[_Model, _Generator], None]] = [
    _add_forbidden, _change_weight_shape, _change_weight, _change_weight, _change_weight, _change_weight_type,
    _change_declared_shape, _change_declared_type, _rename_value, _remove_value, _add_state, _add_state, _change_rows,
    _change_rows, _change_rows, _inflate, _inflate, _inflate, _swap_nodes, _duplicate_node, _delete_node,
    _change_operator, _change_operator, _change_input, _change_attribute, _change_attribute, _change_attribute,
    _change_versions,
]  # fmt: skip
