"""What is in a picture?"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, UploadFile
from fastapi.responses import Response
from PIL import Image

from bahumukha.errors import UsageError
from bahumukha.explain import LARGEST
from bahumukha.web.routes import PROBLEMS, Served
from bahumukha.web.schemas import LARGEST_ID, MOST_LABELS, Classified, LabelProbability
from bahumukha.web.services import Services

router = APIRouter(tags=["ask"], responses=PROBLEMS)

Label = Annotated[str, Form(min_length=1, max_length=200)]
Labels = Annotated[list[Annotated[str, Form(min_length=1, max_length=200)]], Form(min_length=1, max_length=MOST_LABELS)]
PictureForm = Annotated[int | None, Form(ge=1, le=LARGEST_ID)]
PNG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}, "description": "The map."}
}


@router.post("/classify")
def classify(served: Served, labels: Labels, file: UploadFile | None = None, picture: PictureForm = None) -> Classified:
    """Which of the labels is in the picture, which is a file that is sent, or the number of one of the index."""
    image = _image(served, file, picture, served.searcher.side)
    found = served.looker.classify(image, labels)
    return Classified(labels=[LabelProbability(label=x.label, probability=round(x.probability, 6)) for x in found])


@router.post("/explain", response_class=Response, responses=PNG)
def explain(
    served: Served, label: Label, labels: Labels, file: UploadFile | None = None, picture: PictureForm = None
) -> Response:
    """The picture with what speaks for one of the labels in red, and what speaks against it in blue.

    Takes a second or two, as regions are hidden one after another.
    """
    image = _image(served, file, picture, LARGEST)
    return Response(served.looker.heat_map(image, label, labels), media_type="image/png")


def _image(served: Services, file: UploadFile | None, picture: int | None, at_least: int | None) -> Image.Image:
    if (file is None) == (picture is None):
        raise UsageError("give one of file, a picture that is sent, and picture, the number of one of the index")
    if file is not None:
        return served.looker.read(file.file.read(), at_least)
    assert picture is not None
    return served.looker.indexed(picture, at_least)
