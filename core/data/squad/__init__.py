"""Question answering on paragraphs (SQuAD 1.1 and 2.0): reading questions, windows for a model, answers from its
logits, scores.

A question walks from ``articles`` (raw JSON) to ``features`` (windows of tokens) and ``records`` (OFRecord parts),
through a model, and back by ``answers`` (text of the context) to ``scoring`` (exact match and F1).
"""
