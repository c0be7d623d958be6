"""Models in HuggingFace folders, and checkpoints opened as such: in, out, and asked for their outputs."""
