"""The referee: one file a stage (`python -m pipelines.<stage>`), and its instruments."""
