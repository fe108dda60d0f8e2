"""From images to captions: bundles, models, decoding and confidence.

Import from the modules. `captioner` and `onnx_models` load ONNX Runtime; the others need numpy only.
"""
