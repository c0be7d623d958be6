"""Engines that run a plan (hook ``pipeloom_executor``)."""
