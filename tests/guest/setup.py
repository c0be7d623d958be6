"""A package of somebody else: plugins for pipeloom, installed on their own."""

from setuptools import setup

setup(
    name="pipeloom-orchard",
    version="1.0",
    packages=["pipeloom_orchard"],
    entry_points={"pipeloom": ["orchard = pipeloom_orchard.orchard", "heavy_ball = pipeloom_orchard.heavy_ball"]},
)
