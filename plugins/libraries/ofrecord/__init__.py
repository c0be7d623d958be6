"""The OFRecord format: reading, writing, an index, and what records must be."""
