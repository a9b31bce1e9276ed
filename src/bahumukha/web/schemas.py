"""What goes over the line, in both directions: the types of the API, from which its OpenAPI is made."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

LARGEST_ID = 2**63 - 1
MOST_AT_ONCE = 200
MOST_PARTS = 32
MOST_LABELS = 200
DRAWERS = ("fft", "vqgan", "pixel", "strokes", "line")
QUALITIES = ("draft", "normal", "better", "best")

Text = Annotated[str, Field(min_length=1, max_length=500)]
Id = Annotated[int, Field(ge=1, le=LARGEST_ID)]
Upload = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
Offset = Annotated[int, Field(ge=0, le=10_000_000)]
Limit = Annotated[int, Field(ge=1, le=MOST_AT_ONCE)]
Where = Annotated[str, Field(max_length=1000)]
Weight = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=9)]
Cutoff = Literal["auto"] | Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)]


class Sent(BaseModel):
    """What a client sends: nothing that is not known is taken, and no type for another."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Problem(BaseModel):
    """Why a request was refused or failed, in one line."""

    error: str


# --- searching ----------------------------------------------------------------------------------------------


class Term(Sent):
    """Something to look for: one of a text, a picture of the index, or a picture that was sent."""

    text: Text | None = None
    picture: Id | None = None
    upload: Upload | None = None
    weight: Weight = 1.0

    @model_validator(mode="after")
    def _is_one(self) -> Term:
        if sum(each is not None for each in (self.text, self.picture, self.upload)) != 1:
            raise ValueError("a term is one of text, picture or upload")
        return self


class SearchRequest(Sent):
    """A search: at least one of text, picture, upload and plus."""

    text: Text | None = None
    picture: Id | None = None
    upload: Upload | None = None
    plus: Annotated[list[Term], Field(max_length=MOST_PARTS)] = []
    minus: Annotated[list[Term], Field(max_length=MOST_PARTS)] = []
    where: Where | None = None
    cutoff: Cutoff | None = None
    offset: Offset = 0
    limit: Limit = 60

    @model_validator(mode="after")
    def _is_something(self) -> SearchRequest:
        if self.text is None and self.picture is None and self.upload is None and not self.plus:
            raise ValueError("nothing to search for: give text, picture, upload or plus")
        return self


class Picture(BaseModel):
    """One picture of the index. Width and height in pixels, upright; score the cosine with the search."""

    id: int
    name: str
    path: str
    """As `bahu search` prints it: a file's, in a shard or table `/data/a.tar/cat.jpg`, in an object store its URL."""
    width: int | None
    height: int | None
    taken: str | None
    score: float | None = None
    thumbnail: str
    """Address of a small copy."""
    full: str


class PictureDetails(Picture):
    """All that is known of a picture."""

    folder: str
    """Or shard, table, store: the path without the name."""
    format: str | None
    camera: str | None
    latitude: float | None
    longitude: float | None
    bytes: int


class PicturePage(BaseModel):
    """A part of a list: how many there are in all, and the offset of what follows, or null at the end."""

    total: int
    pictures: list[Picture]
    next: int | None
    seconds: float


class DuplicateGroup(BaseModel):
    """Copies: `exact` ones hold the same bytes, `near` ones show the same; similarity is their lowest cosine."""

    kind: str
    similarity: float
    pictures: list[Picture]


class DuplicatePage(BaseModel):
    total: int
    groups: list[DuplicateGroup]
    next: int | None


class Facet(BaseModel):
    value: str
    pictures: int


class Facets(BaseModel):
    """What pictures can be filtered by."""

    years: list[Facet]
    cameras: list[Facet]
    types: list[Facet]


class UploadedPicture(BaseModel):
    """The name by which a search may refer to a picture that was sent; the picture itself is not kept."""

    upload: str
    width: int
    height: int


# --- asking -------------------------------------------------------------------------------------------------


class LabelProbability(BaseModel):
    label: str
    probability: float


class Classified(BaseModel):
    """Labels with their probabilities, best first; they sum to 1."""

    labels: list[LabelProbability]


# --- making -------------------------------------------------------------------------------------------------


Seed = Annotated[int, Field(ge=0, lt=2**53)] | Annotated[str, Field(min_length=1, max_length=100)]


class GenerateRequest(Sent):
    """Pictures to be made. `vqgan-clip` paints each by itself; without size and steps those of the quality are taken.
    `dalle` and `unclip` draw many and keep the best, of a size that the model was made for if none is given; the better
    the quality, the more are drawn."""

    prompt: Text
    generator: Literal["vqgan-clip", "dalle", "unclip"] = "vqgan-clip"
    quality: Literal["draft", "normal", "better", "best"] = "draft"
    drawer: Literal["fft", "vqgan", "pixel", "strokes", "line"] | None = None
    style: Annotated[str, Field(min_length=1, max_length=60)] | None = None
    """Of `dalle` and `unclip`: one that the model knows."""
    seed: Seed = 0
    size: (
        Annotated[str, Field(pattern=r"^([0-9]{2,4}x[0-9]{2,4}|square|widescreen|landscape|portrait|phone)$")] | None
    ) = None
    steps: Annotated[int, Field(ge=1, le=2000)] | None = None
    count: Count = 1
    video: bool = False

    @model_validator(mode="after")
    def _belongs(self) -> GenerateRequest:
        paints = self.generator == "vqgan-clip"
        if paints and self.style is not None:
            raise ValueError("style belongs to dalle and unclip; for vqgan-clip say it in the prompt")
        if not paints and (self.drawer is not None or self.steps is not None):
            raise ValueError("drawer and steps belong to vqgan-clip")
        if not paints and self.size is not None and not self.size[0].isdigit():
            raise ValueError("size: dalle and unclip take width and height, as 64x64")
        return self


class MadeNumber(Sent):
    """A picture that was made: its job, and its number there, from 1."""

    job: Annotated[str, Field(pattern=r"^[0-9a-f]{24}$")]
    number: Annotated[int, Field(ge=1, le=999)] = 1


class VaryRequest(Sent):
    """Other pictures of what a picture shows. `far`: 0 is the picture itself as well as the model can draw it."""

    picture: MadeNumber
    far: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 1.0
    count: Count = 4
    seed: Seed = 0


class BlendRequest(Sent):
    """A strip from one picture to another, of `count` with both ends; with `own_noise` these look like the pictures."""

    first: MadeNumber
    second: MadeNumber
    count: Annotated[int, Field(ge=2, le=9)] = 7
    own_noise: bool = False
    seed: Seed = 0


class EditRequest(Sent):
    """What `source` says of a picture becomes what `target` says: four pictures, each changed more."""

    picture: MadeNumber
    source: Text
    target: Text
    seed: Seed = 0


class MadePicture(BaseModel):
    """A result: the address of a PNG that holds its settings, and of its video, if one was asked for."""

    url: str
    width: int
    height: int
    seed: int | str
    score: float | None = None
    seconds: float | None = None
    video: str | None = None


class JobState(BaseModel):
    """A job. Times are in seconds since 1970; `position` is its place in the queue, 0 where it does not wait."""

    id: str
    kind: str
    settings: dict[str, Any]
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    position: int
    created: float
    started: float | None
    finished: float | None
    step: int
    total: int
    losses: dict[str, float]
    preview: str | None
    """Address of the picture as it now is."""
    pictures: list[MadePicture]
    error: str | None


class JobPage(BaseModel):
    total: int
    jobs: list[JobState]
    next: int | None


# --- the server ---------------------------------------------------------------------------------------------


class FailedFile(BaseModel):
    path: str
    error: str


class IndexState(BaseModel):
    """Indexing: `done` of `total` pictures, total null while folders are listed; files that could not be read."""

    running: bool
    done: int
    total: int | None
    failed: list[FailedFile]
    error: str | None


class Folder(BaseModel):
    """A folder, a shard or table, or a URL."""

    number: int
    path: str
    pictures: int
    indexed: bool
    """To its end."""


class Folders(BaseModel):
    folders: list[Folder]
    index: IndexState


class Generator(BaseModel):
    """A way of making pictures; `missing` says what to install or to train where it cannot be used."""

    name: str
    drawers: list[str]
    styles: list[str]
    qualities: list[str]
    missing: str | None


class Status(BaseModel):
    """What this server is and has."""

    version: str
    pictures: int
    generators: list[Generator]
    waiting: int
    """Jobs that may wait."""
    upload_bytes: int
    languages: dict[str, str]
    """Of the pages, each by its own name."""
