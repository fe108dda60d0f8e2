"""Request and response bodies of the HTTP API."""

from typing import Annotated

from fastapi import UploadFile
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.json_schema import SkipJsonSchema

# Swagger UI shows a file chooser for this format, but not for FastAPI's own schema of an upload.
ImageUpload = Annotated[UploadFile, WithJsonSchema({"type": "string", "format": "binary"})]


class CaptionForm(BaseModel):
    """Images to caption, and options. Unknown fields are rejected."""

    model_config = ConfigDict(extra="forbid")

    files: list[ImageUpload] = Field(description="The images. Repeat the field for several images.")
    n_best: int = Field(default=1, ge=1, description="Number of captions per image.")
    beam_size: int | SkipJsonSchema[None] = Field(
        default=None,
        ge=1,
        examples=[3],
        description="Beam width. The default is the bundle's, or `n_best` if that is larger.",
    )
    attention: bool = Field(default=False, description="Whether to return attention weights for each word.")


class ScoredCaption(BaseModel):
    """A caption of an image."""

    caption: str
    confidence: float | None = Field(
        default=None, description="Probability that the caption is acceptable, 0 to 1, if the bundle is calibrated."
    )
    log_prob: float = Field(description="Natural log-probability of the caption under the model.")
    words: list[str] | None = Field(default=None, description="The words of the caption, if attention was requested.")
    attention: list[list[float]] | None = Field(
        default=None,
        description="For each word, the attention weights of the image's grid cells, row by row from the top left.",
    )


class ImageCaptions(BaseModel):
    """The captions of one image, or the reason why it was not captioned."""

    file: str = Field(description="File name that the client sent.")
    caption: str | None = Field(default=None, description="The best caption.")
    confidence: float | None = Field(default=None, description="Confidence of the best caption.")
    captions: list[ScoredCaption] | None = Field(default=None, description="The `n_best` captions, best first.")
    error: str | None = Field(default=None, description="Why the image was not captioned.")


class CaptionResponse(BaseModel):
    """Captions of all images of a request, in the order of the request."""

    captions: list[ImageCaptions]


class ErrorResponse(BaseModel):
    """Why a request failed, and what to do, in one line."""

    error: str


class InvalidRequestResponse(ErrorResponse):
    """Why a request is invalid, or why none of its images could be read."""

    captions: list[ImageCaptions] | None = Field(
        default=None, description="The error of each image, if no image could be read."
    )
