"""Models with right checksums and hostile content. Each gives a one-line error at a bounded cost."""

import resource
import time
from dataclasses import replace

import numpy as np
import onnx
import onnx.parser
import pytest
from bundle_cases import RECURRENT_GRAPHS
from byte_mutator import mutate
from helpers import save_looking_bundle
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from showtell.errors import BundleError
from showtell.inference import run_limits
from showtell.inference.bundle import Bundle
from showtell.inference.captioner import Captioner
from showtell.inference.model_check import OPERATORS, check_model

ENCODER, START, STEP = "encoder.onnx", "decoder_start.onnx", "decoder_step.onnx"


def parse(graph: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> {graph}')


def caption(folder, name: str, *changes: tuple[str, str]):
    """Caption two images with a bundle after changes of the text of one graph."""
    graph = RECURRENT_GRAPHS[name]
    for old, new in changes:
        assert old in graph
        graph = graph.replace(old, new)
    path = save_looking_bundle(folder / "hostile", {**RECURRENT_GRAPHS, name: graph})
    images = np.zeros((2, 8, 8, 3), np.uint8)
    return [each.captions[0].text for each in Captioner.load(path).caption([*images])]


def test_the_unchanged_models_caption(tmp_path):
    assert caption(tmp_path, ENCODER) == ["a dog", "a dog"]


LAST = "        }"  # the end of a graph
ROWS = [
    (ENCODER, "features", "features"),
    (START, "cells", "cells"),
    (STEP, "log_probabilities", "log_probabilities"),
    (STEP, "next_hidden", "hidden"),
    (STEP, "next_attention", "next_attention"),
]


@pytest.mark.parametrize(("name", "output", "reported"), ROWS)
@pytest.mark.parametrize("operator", ["Concat <axis = 0> (raw, raw)", "Gather <axis = 0> (raw, only)"])
def test_a_row_too_many_or_too_few_never_gives_a_caption(tmp_path, name, output, reported, operator):
    only = (
        ("int64[1]", "int64[1] only = {0}, int64[1]") if name != ENCODER else ("<int64", "<int64[1] only = {0}, int64")
    )
    changes = [(f"{output} = ", "raw = "), (LAST, f"{output} = {operator}\n }}"), only]
    with pytest.raises(BundleError, match=rf"returned {reported} of shape \(\d.*not \("):
        caption(tmp_path, name, *changes)


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        (ENCODER, [("uint8[N, 8, 8, 3]", "uint8[N, 9, 8, 3]")], "images is uint8"),
        (ENCODER, [("uint8[N, 8, 8, 3]", "int8[N, 8, 8, 3]")], "images is int8"),
        (ENCODER, [("uint8[N, 8, 8, 3] images", "uint8[N, 8, 8, 3] pixels"), ("(images)", "(pixels)")], "input images"),
        (ENCODER, [("float[N, 4, 1] features", "float[N, 4] features")], "features is float"),
        (STEP, [("float[M, 4] cells", "float[M, 5] cells")], "cells is float"),
        (STEP, [("float[N, 3] hidden", "float[N, K] hidden")], "the state hidden has the shape"),
        (STEP, [(", float[N, 3] next_hidden", "")], "next_hidden is missing"),
        (STEP, [(", float[N, 4] next_attention", "")], None),
    ],
)  # fmt: skip
def test_inputs_and_outputs_must_be_those_of_the_manifest(tmp_path, name, changes, reason):
    if reason is None:
        assert caption(tmp_path, name, *changes) == ["a dog", "a dog"]
        return
    with pytest.raises(BundleError, match=reason) as error:
        caption(tmp_path, name, *changes)
    assert len(str(error.value).splitlines()) == 1


def test_names_with_control_characters_stay_on_one_printable_line(tmp_path):
    bundle = Bundle.load(save_looking_bundle(tmp_path / "b", RECURRENT_GRAPHS))
    step = onnx.load_from_string(bundle.files[STEP])
    for value in step.graph.input:
        value.name = value.name.replace("hidden", "a\n\x1b[2J" * 1000)
    for node in step.graph.node:
        node.input[:] = [name.replace("hidden", "a\n\x1b[2J" * 1000) for name in node.input]
    hostile = replace(bundle, files={**bundle.files, STEP: step.SerializeToString()})
    with pytest.raises(BundleError, match=r"a \\x1b\[2J") as error:
        Captioner([hostile]).open_models()
    assert str(error.value).isprintable() and len(str(error.value)) < 700


def test_attention_that_the_manifest_does_not_declare_is_refused(tmp_path):
    bundle = Bundle.load(save_looking_bundle(tmp_path / "b", RECURRENT_GRAPHS))
    with pytest.raises(BundleError, match="has_attention"):
        Captioner([replace(bundle, has_attention=False)]).open_models()


@pytest.mark.parametrize("operator", ["Log (below)", "Reciprocal (grey)"])
def test_features_that_are_not_numbers_are_refused(tmp_path, operator):
    weights = ("<int64[3] shape", "<float one = {1.0}, int64[3] shape")
    body = f"below = Sub (grey, one)\n infinite = {operator}\n features = Reshape (infinite, shape)"
    with pytest.raises(BundleError, match="NaN or huge features"):
        caption(tmp_path, ENCODER, ("features = Reshape (grey, shape)", body), weights)


HUGE = {
    "ConstantOfShape": "large = ConstantOfShape (size)",
    "Expand": "large = Expand (one, size)",
    "Tile": "unit = Reshape (one, ones)\n large = Tile (unit, size)",
    "MatMul": "column = Expand (one, tall)\n row = Expand (one, wide)\n large = MatMul (column, row)",
    "Range": "range = Range (first, last, delta)\n large = Cast <to = 1> (range)",
    "Pad": "unit = Reshape (one, ones)\n large = Pad (unit, pads)",
}


@pytest.mark.parametrize("operator", HUGE)
def test_a_tensor_of_ten_gigabytes_is_refused_without_allocating_it(tmp_path, operator):
    weights = (
        "<float one = {1.0}, int64[2] size = {50000, 50000}, int64[2] ones = {1, 1}, int64[2] tall = {50000, 1}, "
        "int64[2] wide = {1, 50000}, int64 first = {0}, int64 last = {2500000000}, int64 delta = {1}, "
        "int64[4] pads = {0, 0, 49999, 49999}, int64[3] shape"
    )
    plain = "plain = Reshape (grey, shape)"
    body = f"{plain}\n {HUGE[operator]}\n total = ReduceMax <keepdims = 0> (large)\n features = Mul (plain, total)"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BundleError, match=r"running a model of the bundle failed.*(smaller than requested|exceeds)"):
        caption(
            tmp_path,
            ENCODER,
            ("<int64[3] shape", weights),
            ("features = Reshape (grey, shape)", body),
        )
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB


def test_a_model_that_takes_too_long_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(run_limits, "SECONDS_PER_IMAGE", 0.5)
    products = "\n".join(f"p{number + 1} = MatMul (p{number}, p{number})" for number in range(1000))
    body = f"""
        plain = Reshape (grey, shape)
        p0 = Expand (one, size)
        {products}
        total = ReduceMin <keepdims = 0> (p1000)
        features = Mul (plain, total)
    """
    weights = "<float one = {0.0005}, int64[2] size = {2000, 2000}, int64[3] shape"
    began = time.monotonic()
    with pytest.raises(BundleError, match="it exceeded the time limit"):
        caption(tmp_path, ENCODER, ("<int64[3] shape", weights), ("features = Reshape (grey, shape)", body))
    assert time.monotonic() - began < 60


def model(*nodes: onnx.NodeProto, **fields) -> onnx.ModelProto:
    inputs = [helper.make_tensor_value_info("x", 1, ["N"])]
    outputs = [helper.make_tensor_value_info("y", 1, ["N"])]
    return helper.make_model(helper.make_graph([*nodes], "graph", inputs, outputs), **fields)


def endless() -> onnx.ModelProto:
    body = parse("body (int64 i, bool go) => (bool again) { again = Identity (go) }").graph
    always = helper.make_node("Constant", [], ["go"], value=numpy_helper.from_array(np.array(True)))
    return model(
        always, helper.make_node("Loop", ["", "go"], [], body=body), helper.make_node("Identity", ["x"], ["y"])
    )


def with_function() -> onnx.ModelProto:
    node = helper.make_node("Identity", ["x"], ["y"])
    function = helper.make_function("", "Relu", ["x"], ["y"], [node], [helper.make_opsetid("", 17)])
    return model(helper.make_node("Relu", ["x"], ["y"]), functions=[function])


def with_sparse_weights() -> onnx.ModelProto:
    sparse = model(helper.make_node("Identity", ["x"], ["y"]))
    values, indices = (
        numpy_helper.from_array(np.ones(1, np.float32), "w"),
        numpy_helper.from_array(np.zeros(1, np.int64)),
    )
    sparse.graph.sparse_initializer.add(values=values, indices=indices, dims=[10**9])
    return sparse


def with_lying_weights() -> onnx.ModelProto:
    lying = model(helper.make_node("Identity", ["x"], ["y"]))
    lying.graph.initializer.add(name="w", data_type=1, dims=[10**6, 10**6], raw_data=bytes(4))
    return lying


def with_attribute_twice() -> onnx.ModelProto:
    node = helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[300, 300])
    node.attribute.append(helper.make_attribute("kernel_shape", [2, 2]))
    return model(node)


@pytest.mark.parametrize(
    ("hostile", "reason"),
    [
        (endless, "operator 'Loop' is not allowed"),
        (lambda: model(helper.make_node("If", ["x"], ["y"])), "operator 'If' is not allowed"),
        (lambda: model(helper.make_node("RandomNormal", [], ["y"], shape=[10**9])), "'RandomNormal' is not allowed"),
        (lambda: model(helper.make_node("\x1b[2J" * 50, ["x"], ["y"])), r"operator '\\x1b\[2J"),
        (lambda: model(helper.make_node("Add", ["x"], ["y"], domain="evil")), "domain 'evil' are not allowed"),
        (lambda: model(helper.make_node("Add", ["x"], ["y"], body=endless().graph)), "field 6 of the attribute"),
        (lambda: model(helper.make_node("Constant", [], ["y"], value_strings=["a"])), "field 9 of the attribute"),
        (with_function, "field 25 of the model"),
        (with_sparse_weights, "field 15 of the graph"),
        (with_lying_weights, "a weight is larger than its data"),
        (lambda: model(*[helper.make_node("Abs", ["x"], [])] * 10_001), "more than 10,000 operators"),
        (lambda: model(helper.make_node("Abs", ["x"], ["y"], doc_string="x" * 9_000_000)), "names and shapes"),
        (lambda: model(helper.make_node("Sum", [""] * 500_001, ["y"])), "too many fields"),
        (lambda: model(helper.make_node("Sum", ["x"] * 101, ["y"])), "more than 100 inputs"),
        (lambda: model(*[helper.make_node("Abs", ["x"], ["y"])] * 2), "'y' has several sources"),
        (with_attribute_twice, "'kernel_shape' occurs twice"),
    ],
)  # fmt: skip
def test_models_with_other_parts_than_known_operators_are_refused(hostile, reason):
    with pytest.raises(ValueError, match=reason) as error:
        check_model(hostile().SerializeToString())
    assert str(error.value).isprintable() and len(str(error.value)) < 200


TEXT = helper.make_tensor("text", onnx.TensorProto.STRING, [1], [b"x"])
EMPTY_TEXT = helper.make_tensor("text", onnx.TensorProto.STRING, [0], [])


@pytest.mark.parametrize(
    "node",
    [
        helper.make_node("Constant", [], ["y"], value_string="x"),
        helper.make_node("Constant", [], ["y"], value=TEXT),
        helper.make_node("ConstantOfShape", ["x"], ["y"], value=EMPTY_TEXT),
        helper.make_node("Cast", ["x"], ["y"], to=onnx.TensorProto.STRING),
        helper.make_node("MaxPool", ["x"], ["y"], auto_pad="x" * 33),
    ],
)
def test_strings_are_refused(node):
    with pytest.raises(ValueError, match=r"strings are not allowed|field 6 of a tensor"):
        check_model(model(node).SerializeToString())
    weights = model(helper.make_node("Identity", ["text"], ["y"]))
    weights.graph.initializer.append(EMPTY_TEXT)
    with pytest.raises(ValueError, match="strings are not allowed"):
        check_model(weights.SerializeToString())


def convolution(operator: str, kernel: tuple[int, ...], conversions: tuple[str, ...] = (), **attributes):
    """Return a model of one convolution with a stored weight, or a weight that other operators compute from it."""
    names = [f"weight{number}" for number in range(len(conversions) + 1)]
    steps = zip(conversions, names[:-1], names[1:], strict=True)
    before = [helper.make_node(name, [source], [target]) for name, source, target in steps]
    inputs = ["x", "s", "z", names[-1]] if operator == "QLinearConv" else ["x", names[-1]]
    convolving = model(*before, helper.make_node(operator, inputs, ["y"], **attributes))
    convolving.graph.initializer.append(numpy_helper.from_array(np.ones((8, 1, *kernel), np.int8), names[0]))
    return convolving


def pooling(operator: str, **attributes) -> onnx.ModelProto:
    return model(helper.make_node(operator, ["x"], ["y"], **attributes))


@pytest.mark.parametrize(
    "slow",
    [
        pooling("AveragePool", kernel_shape=[300, 300]),
        pooling("MaxPool", kernel_shape=[9, 9]),
        pooling("MaxPool", kernel_shape=[65, 1], strides=[65, 1]),
        pooling("MaxPool", kernel_shape=[64, 64], strides=[-64, -64]),
        pooling("MaxPool", kernel_shape=[2, 2], pads=[0, 2, 0, 0]),
        pooling("MaxPool", kernel_shape=[2] * 7),
        convolution("Conv", (9, 9)),
        convolution("Conv", (16, 16), strides=[1, 1]),
        convolution("ConvInteger", (9, 9)),
        convolution("QLinearConv", (9, 9)),
        convolution("Conv", (1, 1), pads=[0, 0, 1, 0]),
        convolution("Conv", (3, 3), dilations=[65, 1]),
        convolution("Conv", (3, 3), ("Expand",)),
        convolution("Conv", (3, 3), ("Reshape", "Cast")),
        convolution("Conv", (3, 3), ("Cast",) * 9),
        model(helper.make_node("Conv", ["x", "x"], ["y"])),
        model(helper.make_node("Conv", ["x"], ["y"])),
        model(helper.make_node("Identity", ["w"], ["w"]), helper.make_node("Conv", ["x", "w"], ["y"])),
    ],
)
def test_slow_convolutions_and_pooling_are_refused(slow):
    with pytest.raises(ValueError, match=r"the windows of '\w+' are too large|weights of a convolution are not stored"):
        check_model(slow.SerializeToString())


@pytest.mark.parametrize(
    "usual",
    [
        pooling("AveragePool", kernel_shape=[8, 8]),
        pooling("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], auto_pad="NOTSET"),
        convolution("Conv", (7, 7), strides=[2, 2], pads=[3, 3, 3, 3]),
        convolution("Conv", (1, 7), pads=[0, 3, 0, 3], group=8),
        convolution("Conv", (3, 3), dilations=[2, 2], pads=[2, 2, 2, 2]),
        convolution("Conv", (32, 32), strides=[32, 32]),
        convolution("Conv", (3, 3), ("Cast", "Identity")),
        convolution("Conv", (3, 3), ("DequantizeLinear",)),
        convolution("QLinearConv", (3, 3)),
    ],
)
def test_usual_convolutions_and_pooling_are_allowed(usual):
    check_model(usual.SerializeToString())


@pytest.mark.parametrize(
    ("weights", "slow"),
    [
        ("int64[4] large = {1, 1, 8000, 8000}", "pooled = AveragePool <kernel_shape = [300, 300]> (image)"),
        (
            "int64[4] large = {1, 1, 8000, 8000}, int64[4] wide = {1, 1, 300, 300}",
            "kernel = Expand (one, wide)\n pooled = Conv (image, kernel)",
        ),
    ],
)
def test_a_single_operator_that_would_run_for_hours_is_refused(tmp_path, weights, slow):
    body = f"""
        plain = Reshape (grey, shape)
        image = Expand (one, large)
        {slow}
        total = ReduceMin <keepdims = 0> (pooled)
        features = Mul (plain, total)
    """
    changes = [("<int64[3] shape", f"<float one = {{1.0}}, {weights}, int64[3] shape")]
    with pytest.raises(BundleError, match=r"encoder.onnx is not allowed in a bundle: the (windows|weights)"):
        caption(tmp_path, ENCODER, *changes, ("features = Reshape (grey, shape)", body))


def test_strings_of_gigabytes_are_refused(tmp_path):
    body = f"""
        plain = Reshape (grey, shape)
        text = Constant <value_string = "{"x" * 1_000_000}"> ()
        texts = Expand (text, count)
        number = Size (texts)
        zero = Sub (number, number)
        total = Cast <to = 1> (zero)
        features = Add (plain, total)
    """
    changes = [("<int64[3] shape", "<int64[1] count = {3000}, int64[3] shape")]
    with pytest.raises(BundleError, match="strings are not allowed"):
        caption(tmp_path, ENCODER, *changes, ("features = Reshape (grey, shape)", body))


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(sorted(RECURRENT_GRAPHS)), st.integers(0, 2**32))
def test_the_check_reads_models_as_onnx_does(name, seed):
    damaged = mutate(parse(RECURRENT_GRAPHS[name]).SerializeToString(), np.random.default_rng(seed))
    try:
        check_model(damaged)
        read = onnx.load_from_string(damaged)
    except Exception as error:
        assert isinstance(error, ValueError) or "protobuf" in type(error).__module__
        return
    names = {node.op_type.encode() for node in read.graph.node} - {b""}
    assert names <= OPERATORS and {node.domain for node in read.graph.node} <= {"", "ai.onnx"}
    assert not any(
        attribute.HasField("g") or attribute.graphs for node in read.graph.node for attribute in node.attribute
    )
    assert not read.functions and not any(tensor.external_data for tensor in read.graph.initializer)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(content):
    try:
        check_model(content)
    except ValueError as error:
        assert len(str(error).splitlines()) == 1
