"""From raw text to training data: ``entry.py prepare``."""
