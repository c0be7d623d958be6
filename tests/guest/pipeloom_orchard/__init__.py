"""Fruit by their traits: a model, a task, a data format and an optimizer for pipeloom, without a word of its core."""
