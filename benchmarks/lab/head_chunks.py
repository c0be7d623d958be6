"""A plugin that says how the head of causal language models makes its logits: ``--head_chunks N``, in N parts, or 0: all
at once and kept for the backward pass, as a plain cross entropy does.
"""

from __future__ import annotations

import pipeloom


@pipeloom.hookimpl
def pipeloom_add_options(options):
    options.add(
        "head_chunks", int, 1, section="model", minimum=0, help="parts that the logits are made in; 0: kept whole"
    )


@pipeloom.hookimpl(hookwrapper=True)
def pipeloom_build_model(config):
    from pipeloom.plugins.tasks import causal_lm_head

    count = config.head_chunks

    def chunks(B, L, V, H):
        bounds = [number * L // count for number in range(count + 1)]
        return [(start, stop - start) for start, stop in zip(bounds, bounds[1:])]

    class WholeHead(causal_lm_head.NextTokenHead):
        def __call__(self, hidden_BLH, fields):
            words_BL, weights_BL = fields["next_ids"], fields["next_weights"]
            measured = self._measure(hidden_BLH, words_BL, weights_BL, 0, hidden_BLH.shape[1])
            return {"lm_loss": measured["lm_loss"]}

    if count:
        causal_lm_head.chunks = chunks
    else:
        causal_lm_head.NextTokenHead = WholeHead
    yield
