"""Methods that learn the codes of the database themselves, beside a network for queries."""
