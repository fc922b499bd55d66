"""The nearest codes: exact on one core, approximate with inverted lists, exact on accelerators."""
