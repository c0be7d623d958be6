"""From a dataset to the batches of a rank: order, mixtures, weights, bounds."""
