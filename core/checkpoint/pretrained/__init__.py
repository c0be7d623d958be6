"""Models in folders: ours and HuggingFace's, in and out."""
