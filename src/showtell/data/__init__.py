"""Training data: caption files, splits, captions.h5 and feature files."""

from showtell.data.caption_files import Example, read_caption_file
from showtell.data.captions_h5 import (
    CaptionData,
    CaptionSplit,
    build_caption_data,
    encode_captions,
    read_captions_h5,
    read_image_names,
    require_new_captions_h5,
    vocabulary_path,
    write_captions_h5,
)
from showtell.data.extraction import FeatureWriter, extract_features
from showtell.data.features import Features, Rows
from showtell.data.splits import load_examples, match_images, read_split, select_with_images, split_holdout
from showtell.data.tutorial import write_tutorial_data

__all__ = [
    "CaptionData",
    "CaptionSplit",
    "Example",
    "FeatureWriter",
    "Features",
    "Rows",
    "build_caption_data",
    "encode_captions",
    "extract_features",
    "load_examples",
    "match_images",
    "read_caption_file",
    "read_captions_h5",
    "read_image_names",
    "read_split",
    "require_new_captions_h5",
    "select_with_images",
    "split_holdout",
    "vocabulary_path",
    "write_captions_h5",
    "write_tutorial_data",
]
