"""Making a folder of data in steps that may be interrupted: journal, workers, progress, output."""
