"""Other captioners in transformers, built from their configuration with random weights.

Their captions are meaningless, but take as long as real ones. They caption photos with a beam width of 3 and a fixed
number of tokens. Decoding the tokens to text is left out.

    python _peers.py make NAME FOLDER               write a captioner
    python _peers.py caption FOLDER TOKENS IMAGE ..  load it and caption images
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

BEAM_SIZE = 3
NAMES = ("vit-gpt2", "BLIP-base")


def make(name: str, folder: Path) -> None:
    """Write a captioner as large as nlpconnect/vit-gpt2-image-captioning or Salesforce/blip-image-captioning-base."""
    import torch
    import transformers

    torch.manual_seed(0)
    model: Any
    processor: Any
    if name == "vit-gpt2":
        # The default sizes are those of the published model: ViT-base at 224 pixels and the smallest GPT-2.
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
    """A captioner written by `make`."""

    def __init__(self, folder: Path):
        import transformers

        is_vit = "vision-encoder" in (folder / "config.json").read_text()
        model = "VisionEncoderDecoderModel" if is_vit else "BlipForConditionalGeneration"
        processor = "ViTImageProcessor" if is_vit else "BlipImageProcessor"
        self._model = getattr(transformers, model).from_pretrained(folder).eval()
        self._processor = getattr(transformers, processor).from_pretrained(folder)

    def caption(self, paths: Sequence[Path], tokens: int) -> Any:
        """Caption a batch of images with this number of tokens each. Return the token ids (N, any)."""
        import torch
        from PIL import Image

        images = [Image.open(path).convert("RGB") for path in paths]
        with torch.inference_mode():
            pixels = self._processor(images, return_tensors="pt").pixel_values
            return self._model.generate(
                pixel_values=pixels, num_beams=BEAM_SIZE, min_new_tokens=tokens, max_new_tokens=tokens
            )


if __name__ == "__main__":
    task, *arguments = sys.argv[1:]
    if task == "make":
        make(arguments[0], Path(arguments[1]))
    elif task == "caption":
        folder, tokens, *images = arguments
        print(Peer(Path(folder)).caption([Path(image) for image in images], int(tokens)).shape)
    else:
        print(__doc__)
