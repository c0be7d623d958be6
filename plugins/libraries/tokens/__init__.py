"""Token folders: text that was turned into ids once, on disk; and its packing into samples of a fixed length."""
