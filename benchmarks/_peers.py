"""Captioners of other makers, as transformers builds them from their configuration, with random weights.

What they say is nonsense, but it takes as long as sense. They caption as a user would have them: photograph in, as many
tokens out as are asked for, by a beam of three; what a tokenizer would do after that is left out.

As a program: `python _peers.py make NAME FOLDER` writes one, and `python _peers.py caption FOLDER TOKENS IMAGE..` loads
it and captions the images.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

BEAM_SIZE = 3
NAMES = ("vit-gpt2", "BLIP-base")


def make(name: str, folder: Path) -> None:
    """Write one of the size of nlpconnect/vit-gpt2-image-captioning or Salesforce/blip-image-captioning-base."""
    import torch
    import transformers

    torch.manual_seed(0)
    model: Any
    processor: Any
    if name == "vit-gpt2":
        # Both start from the sizes of the models that are downloaded: ViT-base at 224 pixels, the smallest GPT-2.
        config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(
            transformers.ViTConfig(), transformers.GPT2Config(add_cross_attention=True, is_decoder=True)
        )
        config.decoder_start_token_id = config.pad_token_id = config.decoder.eos_token_id
        model = transformers.VisionEncoderDecoderModel(config)
        processor = transformers.ViTImageProcessor()
    else:
        model = transformers.BlipForConditionalGeneration(transformers.BlipConfig())
        processor = transformers.BlipImageProcessor()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


class Peer:
    """A captioner loaded from the folder where `make` has left it."""

    def __init__(self, folder: Path):
        import transformers

        kind = "VisionEncoderDecoderModel" if "vision-encoder" in _config(folder) else "BlipForConditionalGeneration"
        self._model = getattr(transformers, kind).from_pretrained(folder).eval()
        processor = "ViTImageProcessor" if kind.startswith("Vision") else "BlipImageProcessor"
        self._processor = getattr(transformers, processor).from_pretrained(folder)

    def caption(self, images: Sequence[Path], tokens: int) -> Any:
        """Caption a batch of images with so many tokens each; return token ids (N, any)."""
        import torch
        from PIL import Image

        pictures = [Image.open(path).convert("RGB") for path in images]
        with torch.inference_mode():
            pixels = self._processor(pictures, return_tensors="pt").pixel_values
            return self._model.generate(
                pixel_values=pixels, num_beams=BEAM_SIZE, min_new_tokens=tokens, max_new_tokens=tokens
            )


def _config(folder: Path) -> str:
    return (folder / "config.json").read_text()


if __name__ == "__main__":
    task, *arguments = sys.argv[1:]
    if task == "make":
        make(arguments[0], Path(arguments[1]))
    else:
        folder, tokens, *images = arguments
        print(Peer(Path(folder)).caption([Path(image) for image in images], int(tokens)).shape)
