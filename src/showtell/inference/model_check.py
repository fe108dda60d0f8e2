"""The ONNX models that a bundle may contain, checked before ONNX Runtime reads them.

A model is a plain graph: a list of operators of known cost, without loops, functions, custom operators or other files.
The check reads the protobuf message of the file (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).

ONNX Runtime stops a model only between two operators, so the cost of a single operator must be bounded. The memory
limit bounds the size of all tensors, and with it the cost of most operators, including matrix products. The cost of
convolutions and pooling also depends on their windows, which are limited here. Strings are refused, because the memory
limit does not include their characters.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod

from showtell.inference.protobuf import FieldReader

# The operators of showtell's exports, of transformers (BERT, ViT), and of their quantised forms.
_OPERATORS = """
    Abs Add And ArgMax ArgMin AveragePool BatchNormalization Cast Ceil Clip Concat Constant ConstantOfShape Conv
    ConvInteger Cos CumSum DequantizeLinear Div DynamicQuantizeLinear Elu Equal Erf Exp Expand Flatten Floor Gather
    GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual GroupNormalization
    HardSigmoid HardSwish Identity InstanceNormalization LayerNormalization LeakyRelu Less LessOrEqual Log
    LogSoftmax MatMul MatMulInteger Max MaxPool Mean Min Mod Mul Neg Not OneHot Or PRelu Pad Pow QLinearConv
    QLinearMatMul QuantizeLinear RMSNormalization Range Reciprocal ReduceL2 ReduceMax ReduceMean ReduceMin
    ReduceProd ReduceSum ReduceSumSquare Relu Reshape Round ScatterElements ScatterND Selu Shape Sigmoid Sign Sin
    Size Slice Softmax Softplus Split Sqrt Squeeze Sub Sum Tanh Tile TopK Transpose Trilu Unsqueeze Where
"""
OPERATORS = frozenset(name.encode() for name in _OPERATORS.split())
DOMAINS = (b"", b"ai.onnx")
MAX_NODES = 10_000
MAX_FIELDS = 500_000
# Names, descriptions and shapes, in bytes: ONNX Runtime makes a large object of each.
MAX_METADATA = 8_000_000
# The inputs of a Sum may all be the same large tensor.
MAX_INPUTS = 100
# Text attributes select a mode, as auto_pad does.
MAX_ATTRIBUTE_TEXT = 32
# Sizes, strides, dilations and padding of the windows of convolutions and pooling.
MAX_WINDOW_SIZE = 64
# The number of windows that contain the same position: 49 for a 7 x 7 kernel, 1 for patches of any size.
MAX_WINDOW_OVERLAP = 64

_POOLS = (b"AveragePool", b"MaxPool")
# The position of the weights among the inputs.
_CONVOLUTIONS = {b"Conv": 1, b"ConvInteger": 1, b"QLinearConv": 3}
# Operators that keep the shape of stored weights.
_CONVERSIONS = (b"Cast", b"DequantizeLinear", b"Identity")
MAX_CONVERSIONS = 4
# TensorProto.STRING and AttributeProto.STRINGS.
_STRING = 8


def check_model(content: bytes) -> None:
    """Raise ValueError unless the content is a plain graph of known operators, with all weights in the file."""
    check = _ModelCheck(content)
    check.model(0, len(content))
    check.windows()


@dataclass(slots=True)
class _Node:
    """An operator, the names of its inputs, and its attributes that are integers or lists of integers."""

    operator: bytes = b""
    inputs: list[bytes] = field(default_factory=list)
    integers: dict[bytes, list[int]] = field(default_factory=dict)


class _ModelCheck:
    """Checks one model. Each method checks the message between two positions. Unknown fields are refused."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._read = FieldReader(content, MAX_FIELDS).read
        self._nodes = 0
        self._metadata = 0
        self._node = _Node()
        self._node_checks = {1: self.input, 2: self.output, 4: self.operator, 5: self.attribute, 7: self.domain}
        # Name of a tensor -> the operator that computes it, or the shape of a stored weight.
        self._sources: dict[bytes, _Node | list[int]] = {}
        self._windows: list[_Node] = []

    def model(self, start: int, end: int) -> None:
        self._check("model", start, end, {7: self.graph}, plain=(1, 2, 3, 4, 5, 6, 8, 14))

    def graph(self, start: int, end: int) -> None:
        self._check("graph", start, end, {1: self.node, 5: self.weight}, plain=(2, 10, 11, 12, 13, 14, 16))

    def node(self, start: int, end: int) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise ValueError(f"more than {MAX_NODES:,} operators")
        self._node = node = _Node()
        self._check("operator", start, end, self._node_checks, plain=(3, 6, 9))
        if len(node.inputs) > MAX_INPUTS:
            raise ValueError(f"an operator has more than {MAX_INPUTS} inputs")
        if node.operator == b"Cast" and _STRING in node.integers.get(b"to", ()):
            raise ValueError("strings are not allowed")
        if node.operator in _POOLS or node.operator in _CONVOLUTIONS:
            self._windows.append(node)

    def input(self, start: int, end: int) -> None:
        self._node.inputs.append(self._name(start, end))

    def output(self, start: int, end: int) -> None:
        self._add_source(self._name(start, end), self._node)

    def operator(self, start: int, end: int) -> None:
        self._node.operator = name = self._content[start:end]
        if name not in OPERATORS:
            raise ValueError(f"operator {_text(name)} is not allowed")

    def domain(self, start: int, end: int) -> None:
        if (name := self._content[start:end]) not in DOMAINS:
            raise ValueError(f"operators of the domain {_text(name)} are not allowed")

    def attribute(self, start: int, end: int) -> None:
        name, integers = b"", []
        for number, value, stop in self._read(start, end):
            if number == 1 and stop >= 0:
                name = self._name(value, stop)
            elif number in (3, 8) and stop < 0:
                integers.append(value)
            elif number == 5 and stop >= 0:
                self.tensor(value, stop)
            elif (number == 4 and stop - value > MAX_ATTRIBUTE_TEXT) or (number == 20 and value == _STRING):
                raise ValueError("strings are not allowed")
            elif number not in (2, 4, 7, 13, 20):
                raise ValueError(f"field {number} of the attribute is not allowed")
            else:
                self._metadata += max(0, stop - value)
        if name.startswith(b"value_string"):
            raise ValueError("strings are not allowed")
        if name in self._node.integers:
            raise ValueError(f"the attribute {_text(name)} occurs twice")
        self._node.integers[name] = integers

    def weight(self, start: int, end: int) -> None:
        self._add_source(*self.tensor(start, end))

    def tensor(self, start: int, end: int) -> tuple[bytes, list[int]]:
        """Check a tensor; return its name and shape."""
        name, shape, elements = b"", [], 1
        for number, value, stop in self._read(start, end):
            if number == 1 and stop < 0:
                shape.append(value)
                elements = min(elements * value, 1 << 62)
            elif number == 8 and stop >= 0:
                name = self._name(value, stop)
            elif (number, value, stop) == (2, _STRING, -1):
                raise ValueError("strings are not allowed")
            elif number in (13, 14) and (value, stop) != (0, -1):
                raise ValueError("a weight is in an external file")
            elif number not in (2, 4, 5, 7, 8, 9, 10, 11, 12, 14, 16):
                raise ValueError(f"field {number} of a tensor is not allowed")
        if elements > 2 * (end - start):  # the smallest type has 4 bits
            raise ValueError("a weight is larger than its data")
        return name, shape

    def windows(self) -> None:
        """Check the windows of convolutions and pooling, after all weights were read."""
        for node in self._windows:
            kernel = node.integers.get(b"kernel_shape", [])
            if node.operator in _CONVOLUTIONS:
                kernel = self._stored_shape(node.inputs[_CONVOLUTIONS[node.operator] :])[2:]
            _check_window(node.operator, kernel, node.integers)

    def _stored_shape(self, inputs: list[bytes]) -> list[int]:
        """Return the shape of the first input, which must be a stored weight or a conversion of one."""
        for _ in range(MAX_CONVERSIONS):
            source = self._sources.get(inputs[0]) if inputs else None
            if isinstance(source, list):
                return source
            inputs = source.inputs if source and source.operator in _CONVERSIONS else []
        raise ValueError("the weights of a convolution are not stored in the model")

    def _add_source(self, name: bytes, source: "_Node | list[int]") -> None:
        if name and name in self._sources:
            raise ValueError(f"the tensor {_text(name)} has several sources")
        self._sources[name] = source

    def _name(self, start: int, end: int) -> bytes:
        self._metadata += end - start
        return self._content[start:end]

    def _check(
        self, kind: str, start: int, end: int, checks: Mapping[int, Callable[[int, int], None]], plain: tuple[int, ...]
    ) -> None:
        for number, value, stop in self._read(start, end):
            if stop >= 0 and number in checks:
                checks[number](value, stop)
            elif number not in plain:
                raise ValueError(f"field {number} of the {kind} is not allowed")
            elif stop >= 0:
                self._metadata += stop - value
        if self._metadata > MAX_METADATA:
            raise ValueError(f"more than {MAX_METADATA:,} bytes of names and shapes")


def _text(name: bytes) -> str:
    return repr(name[:50].decode(errors="replace"))


def _check_window(operator: bytes, kernel: list[int], attributes: Mapping[bytes, list[int]]) -> None:
    """Raise ValueError if windows are large, overlap a lot, or lie outside of the image by more than their half."""
    strides, dilations, pads = (attributes.get(name, []) for name in (b"strides", b"dilations", b"pads"))
    dilations = dilations or [1] * len(kernel)
    extents = [(size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations, strict=False)]
    if (
        max([*kernel, *strides, *dilations, *pads], default=0) > MAX_WINDOW_SIZE
        or prod(kernel) > MAX_WINDOW_OVERLAP * prod(strides)
        or any(2 * pad > extent for pad, extent in zip(pads, 2 * extents, strict=False))
    ):
        raise ValueError(f"the windows of {_text(operator)} are too large")
