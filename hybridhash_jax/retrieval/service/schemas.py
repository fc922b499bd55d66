"""What requests and answers hold, as the OpenAPI file says it."""

from pydantic import BaseModel, ConfigDict, Field

from hybridhash_jax.retrieval.service.settings import MOST

_TEXT = 1000  # letters of a filter


class Asked(BaseModel):
    """Which images are wanted."""

    model_config = ConfigDict(extra="forbid")

    k: int = Field(24, ge=1, le=MOST, description="at most so many images")
    radius: int | None = Field(
        None, ge=0, description="only images whose codes differ in at most so many bits"
    )
    label: str | None = Field(
        None, max_length=_TEXT, description="only images with this label; empty: those without one"
    )
    path: str | None = Field(
        None,
        max_length=_TEXT,
        description="only images with such a path: * stands for any letters, ? for one; empty: all",
    )
    offset: int = Field(
        0, ge=0, lt=MOST, description=f"pass over so many; offset + k is at most {MOST}"
    )


class SearchFields(Asked):
    """The fields of a search beside its image; exactly one of image, row and code is given."""

    row: int | None = Field(None, ge=0, description="an image of the index")
    code: str | None = Field(
        None, max_length=4096, description="a code in hex, as an answer gives it"
    )


class Item(BaseModel):
    """An image of the index."""

    row: int = Field(description="its place in this generation of the index")
    path: str = Field(description="relative to the index's root; lone surrogates for bytes that are not UTF-8")  # fmt: skip
    name: str = Field(description="the path for people: letters that cannot be shown are escaped")
    label: str
    width: int
    height: int


class ItemDetails(Item):
    """An image of the index and its file."""

    size: int = Field(description="of the file, in bytes")
    modified: float = Field(description="when the file was changed, seconds since 1970")


class FoundItem(Item):
    """An image that was found."""

    rank: int = Field(description="from 1, pages before it included")
    distance: int = Field(description="in bits, from the query")


class Query(BaseModel):
    """What was searched with."""

    row: int | None
    code: str = Field(description="hex; searching with it needs no network")


class Filters(BaseModel):
    """The filters of an answer."""

    label: str | None
    path: str | None


class Answer(BaseModel):
    """What was found, by distance, then by row."""

    query: Query
    generation: int
    searched: int = Field(description="images that passed the filters")
    k: int
    offset: int
    radius: int | None
    where: Filters
    found: list[FoundItem]
    more: bool = Field(description="whether a further page can be asked for")
    at_last: int = Field(description="images at the distance of the last one found")
    left_out: int = Field(description="those of them that neither this page nor one before it has")
    within: list[int] = Field(description="searched images at distance 0, 1, ..., bits")


class Label(BaseModel):
    """A label of the index."""

    label: str
    count: int


class Limits(BaseModel):
    """What a search may ask."""

    upload_bytes: int
    pixels: int
    k: int


class IndexFacts(BaseModel):
    """What is served."""

    images: int
    bits: int
    model: str
    fingerprint: str
    generation: int
    labels: list[Label] = Field(description="the most frequent ones first, at most 200")
    originals: bool = Field(description="whether whole files are given out")
    thumbnails: bool = Field(
        description="False where no image has one, so nobody need ask for each"
    )
    duplicates: bool = Field(description="whether the index has what near-duplicates need")
    limits: Limits
    warnings: list[str]


class GroupImage(BaseModel):
    """An image of a group of near-duplicates."""

    row: int
    path: str
    name: str
    width: int
    height: int
    relation: str = Field(description="what it is to the first of the group")
    similarity: float


class Group(BaseModel):
    """Images that are nearly the same."""

    id: str
    images: list[GroupImage]


class Groups(BaseModel):
    """Near-duplicates, the largest group first."""

    generation: int
    total: int
    offset: int
    groups: list[Group]


class ProblemDetails(BaseModel):
    """Why a request was refused (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str = Field(description="a sentence for people")
