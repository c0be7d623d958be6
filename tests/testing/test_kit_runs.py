"""The kit's checks by training find what depends on the layout. That right plugins pass: ``test_guest_package.py``."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeloom.testing import ConformanceError, Subject, checks_of

HERE = Path(__file__).resolve().parent


def test_a_loss_that_is_a_mean_of_its_micro_batch_is_found(tmp_path):
    text, right = (HERE / "small_plugin.py").read_text(), "* fields[SAMPLE_WEIGHT]).sum()}"
    assert right in text
    (tmp_path / "mean.py").write_text(text.replace(right, ").sum() * (1 / hidden_BLH.shape[0])}"))
    subject = Subject(f"{tmp_path / 'mean.py'},{HERE.parent / 'masked_stream.py'}")
    (check,) = [one for one in checks_of(subject) if one.name == "trains_alike_in_DP2_sgd"]
    with pytest.raises(ConformanceError, match="DP2: a loss differs by .*sums weighted by SAMPLE_WEIGHT"):
        check.run(subject, tmp_path)
