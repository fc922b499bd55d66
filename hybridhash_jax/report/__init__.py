"""What a run found, as JSON, pictures and pages."""
