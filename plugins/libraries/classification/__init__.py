"""Texts with a class or a number each: reading tables of them, inputs of a model, and figures of what it says."""
