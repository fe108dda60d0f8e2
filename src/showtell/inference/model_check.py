"""The ONNX models that a bundle may contain, checked before ONNX Runtime reads them.

A model is a plain graph: a list of operators of known cost, without loops, functions, custom operators or other files.
The check reads the protobuf message of the file (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
"""

from collections.abc import Callable, Mapping

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


def check_model(content: bytes) -> None:
    """Raise ValueError unless the content is a plain graph of known operators, with all weights in the file."""
    _ModelCheck(content).model(0, len(content))


class _ModelCheck:
    """Checks one model. Each method checks the message between two positions. Unknown fields are refused."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._read = FieldReader(content, MAX_FIELDS).read
        self._nodes = 0
        self._metadata = 0
        self._node_checks = {4: self.operator, 5: self.attribute, 7: self.domain}

    def model(self, start: int, end: int) -> None:
        self._check("model", start, end, {7: self.graph}, plain=(1, 2, 3, 4, 5, 6, 8, 14))

    def graph(self, start: int, end: int) -> None:
        self._check("graph", start, end, {1: self.node, 5: self.tensor}, plain=(2, 10, 11, 12, 13, 14, 16))

    def node(self, start: int, end: int) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise ValueError(f"more than {MAX_NODES:,} operators")
        self._check("operator", start, end, self._node_checks, plain=(1, 2, 3, 6, 9))

    def operator(self, start: int, end: int) -> None:
        if (name := self._content[start:end]) not in OPERATORS:
            raise ValueError(f"operator {_text(name)} is not allowed")

    def domain(self, start: int, end: int) -> None:
        if (name := self._content[start:end]) not in DOMAINS:
            raise ValueError(f"operators of the domain {_text(name)} are not allowed")

    def attribute(self, start: int, end: int) -> None:
        self._check("attribute", start, end, {5: self.tensor}, plain=(1, 2, 3, 4, 7, 8, 13, 20))

    def tensor(self, start: int, end: int) -> None:
        elements = 1
        for number, value, stop in self._read(start, end):
            if number == 1 and stop < 0:
                elements = min(elements * value, 1 << 62)
            elif number in (13, 14) and (value, stop) != (0, -1):
                raise ValueError("a weight is in an external file")
            elif number not in (2, 4, 5, 7, 8, 9, 10, 11, 12, 14, 16):
                raise ValueError(f"field {number} of a tensor is not allowed")
        if elements > 2 * (end - start):  # the smallest type has 4 bits
            raise ValueError("a weight is larger than its data")

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
