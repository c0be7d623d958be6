"""Questions about texts and their answers by a span: reading them, inputs of a model, answers out of logits, scores."""
