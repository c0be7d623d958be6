"""Batch systems that start launchers on several nodes and say which each is (hook ``pipeloom_cluster_options``)."""
