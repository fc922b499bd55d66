"""What is said of damaged segments."""

from hybridhash_jax.retrieval.index import Index
from hybridhash_jax.retrieval.names import shown
from input_pipeline.messages import counted, shortened


def damage(index: Index) -> list[str]:
    """A sentence if segments of an index are damaged, with what that means for a search."""
    if not index.damaged:
        return []
    files = counted(len(index.damaged), "damaged file")
    codes = any(name.endswith(".codes") for name in index.damaged)
    meant = (
        "Images of damaged codes are not searched"
        if codes
        else "All images are searched, but near-duplicates are not found among some"
    )
    return [
        f"{files} in {shown(index.path)}/segments: {shortened(index.damaged)}. {meant}; encode them "
        "again with hybridhash encode"
    ]
