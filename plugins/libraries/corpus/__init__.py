"""Text out of dumps, JSON, HTML and plain files, and its sentences."""
