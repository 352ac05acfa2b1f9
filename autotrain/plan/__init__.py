"""The chosen settings with evidence and provenance; YAML in and out."""
