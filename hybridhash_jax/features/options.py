"""The options of kept features. Imports nothing large."""

from input_pipeline.options import Option

OPTIONS = (
    Option("keep", "features of a frozen backbone on disk", ("auto", "always", "never")),
    Option("views", "1, or 2 with the mirror image", (1, 2)),
    Option("budget_gb", "most that kept features may take", above=0, may_change=True),
)
