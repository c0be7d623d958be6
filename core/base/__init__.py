"""Errors, output, files that appear whole, devices: what every room uses. Imports no other room."""
