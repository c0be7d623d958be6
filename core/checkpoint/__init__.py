"""Checkpoints: what a run needs to go on exactly, on disk, whole or not at all; no room here knows of ranks or
layouts.
"""
