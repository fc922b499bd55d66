"""What is said of damaged segments."""

from hybridhash_jax.retrieval.index import Index
from hybridhash_jax.retrieval.names import shown
from input_pipeline.messages import counted, shortened


def damage(index: Index) -> list[str]:
    """A sentence if segments of an index are damaged, whose images are not searched."""
    if not index.damaged:
        return []
    files = counted(len(index.damaged), "damaged file")
    return [
        f"{files} in {shown(index.path)}/segments: {shortened(index.damaged)}. Images of damaged "
        "codes are not searched; encode them again with hybridhash encode"
    ]
