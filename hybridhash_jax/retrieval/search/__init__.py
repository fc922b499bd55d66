"""Questions to an index: queries, filters, answers as text, JSON, CSV or a page."""
