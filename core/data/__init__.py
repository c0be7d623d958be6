"""Training data: the OFRecord format, tokenization, building examples, the order of samples."""
