"""`check --embeddings` finds what training refuses."""

import numpy as np
import pytest

from hybridhash_jax.image_sources import check_enough
from input_pipeline import check
from input_pipeline.lists.folder_splits import FolderSplits
from input_pipeline.vectors.embeddings import EmbeddingFiles, load_embeddings


@pytest.mark.parametrize("split", ["train", "query", "database"])
def test_a_split_of_embeddings_without_a_row_is_a_problem_in_the_words_of_training(
    tmp_path, monkeypatch, capsys, split
):
    monkeypatch.chdir(tmp_path)
    np.save("vectors.npy", np.random.default_rng(0).normal(size=(40, 4)).astype(np.float16))
    np.save("labels.npy", np.arange(40) // 2 % 2)
    words = [x for x in ("train", "query", "database") if x != split] * 20
    (tmp_path / "splits.txt").write_text("\n".join(words))
    files = EmbeddingFiles("vectors.npy", "labels.npy", None, "splits.txt")
    with pytest.raises(ValueError, match="has no images") as refused:
        check_enough(load_embeddings(files, None, 0, FolderSplits()), 1, searches=True)
    arguments = ["--embeddings=vectors.npy", "--labels=labels.npy", "--split_file=splits.txt"]
    assert check.main(arguments) == 1
    assert f"problem: {refused.value}\n" in capsys.readouterr().out
