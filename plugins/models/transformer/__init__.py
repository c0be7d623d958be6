"""What the transformer models share: sizes, options, costs, and the layers."""
