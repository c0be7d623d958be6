"""The resolved configuration: options by flags, YAML, the cluster's environment, and where each value came from."""
