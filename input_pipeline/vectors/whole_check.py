"""Whether files of vectors can be used, and what they hold."""

from input_pipeline.dataset import empty_splits
from input_pipeline.errors import DataError
from input_pipeline.images.vectors import Vectors
from input_pipeline.lists.folder_splits import FolderSplits
from input_pipeline.lists.label_lists import LabelList
from input_pipeline.lists.list_tables import list_table
from input_pipeline.vectors.embeddings import EmbeddingFiles, load_embeddings
from input_pipeline.vectors.row_checks import why_useless


def check_vectors(files: EmbeddingFiles, directory: str | None) -> tuple[list[str], list[str]]:
    """Tables of what the files hold, and why a run could not learn from it.

    The splits are those that a run would draw from seed 0; DataError where the files cannot be used.
    """
    try:
        data = load_embeddings(files, directory, 0, FolderSplits())
    except (DataError, ValueError) as error:
        told = str(error).replace("--config.data.", "--").replace("data.dir", "--dir")
        raise DataError(told) from None
    splits = data.splits.by_name()
    lists = {x: LabelList([""] * len(y), data.labels[y], "") for x, y in splits.items()}
    assert isinstance(data.images, Vectors)
    tables = [data.provenance, list_table(lists, data.class_names)]
    useless = why_useless(data.images.array, data.labels[data.splits.train])
    return tables, [*empty_splits(data).values(), *useless]
