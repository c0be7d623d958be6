"""Tokenizers: WordPiece and BPE, their files, their special tokens."""
