"""What several plugins share and the core does not know: file formats, tokenizers, text."""
