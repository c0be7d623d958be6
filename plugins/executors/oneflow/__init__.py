"""Where tensors run: one nn.Graph over the stages, fed by each rank with the fields of its own stage."""
