"""What a CPU can say of the CUDA path: names, arguments and shapes of kernels, settings that are kept, and formulas.

No kernel runs here but those that the engine has for CPUs too.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from test_executor import as_global, check_gradients

from pipeloom.core.base.errors import UsageError
from pipeloom.core.commands.cli import parse
from pipeloom.core.planning.planner import make_plan
from pipeloom.plugins.executors.oneflow import CUDA_OPTIONS, OneFlow


@pytest.fixture(scope="module")
def flow():
    from pipeloom.plugins.executors.oneflow.engine import import_oneflow

    return import_oneflow()


#: Functions of ``flow._C`` as ``FusedOps`` calls them: tensors, then the arguments by name.
KERNELS = {
    "fused_matmul_bias": (3, ()),
    "bias_add": (2, ("axis",)),
    "layer_norm_affine": (3, ("begin_norm_axis", "begin_params_axis", "epsilon")),
    "fused_scale_mask_softmax": (2, ("fill_value", "scale")),
    "gelu": (1, ()),
}


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_the_engine_has_the_kernel_with_these_arguments(flow, name):
    """Each argument in turn of a type that none has: the engine names it, and runs nothing."""
    tensors, arguments = KERNELS[name]
    values = dict.fromkeys(arguments, 1)
    for wrong in arguments:
        with pytest.raises(TypeError, match=f"argument '{wrong}' must be "):
            getattr(flow._C, name)(*[flow.ones(2, 2)] * tensors, **{**values, wrong: object()})
    with pytest.raises(TypeError, match="must be tensor"):
        getattr(flow._C, name)(*[flow.ones(2, 2)] * (tensors - 1), object(), **values)


class Recorded:
    """``flow._C``, but for functions that are recorded and computed by numpy."""

    def __init__(self, real, replaced):
        self._real, self._replaced, self.called = real, replaced, []

    def __getattr__(self, name):
        if name not in self._replaced:
            return getattr(self._real, name)

        def call(*tensors, **arguments):
            self.called.append((name, len(tensors), tuple(arguments)))
            return self._replaced[name](*tensors, **arguments)

        return call


def normal(x, weight, bias, begin_norm_axis, begin_params_axis, epsilon):
    assert begin_norm_axis == begin_params_axis == 1
    center = x.numpy() - x.numpy().mean(-1, keepdims=True)
    return center / np.sqrt((center**2).mean(-1, keepdims=True) + epsilon) * weight.numpy() + bias.numpy()


def masked_softmax(x, mask, fill_value, scale):
    """As the engine's documentation has it: softmax of ``x * scale``, or of ``fill_value`` where the mask is 0."""
    scores = np.where(np.broadcast_to(mask.numpy(), x.shape), x.numpy() * scale, fill_value)
    exponents = np.exp(scores - scores.max(-1, keepdims=True))
    return exponents / exponents.sum(-1, keepdims=True)


@pytest.fixture
def fused(flow, monkeypatch):
    """``FusedOps`` whose kernels that no CPU has are those of numpy, and what has been called."""
    from pipeloom.plugins.executors.oneflow.cuda import FusedOps

    by_numpy = lambda formula: lambda *tensors, **more: as_global(flow, formula(*tensors, **more).astype(np.float32))
    kernels = {"layer_norm_affine": by_numpy(normal), "fused_scale_mask_softmax": by_numpy(masked_softmax)}
    recorded = Recorded(flow._C, kernels)
    monkeypatch.setattr(flow, "_C", recorded)
    return FusedOps(), recorded


def test_the_kernels_are_called_as_the_table_says(flow, fused):
    ops, recorded = fused
    rng = np.random.default_rng(0)
    x, weight, bias = (as_global(flow, rng.standard_normal(s).astype(np.float32)) for s in ((6, 8), (8,), (8,)))
    expected = normal(x, weight, bias, 1, 1, 1e-12)
    np.testing.assert_allclose(ops.layer_norm(x, weight, bias, 1e-12).numpy(), expected, rtol=1e-5, atol=1e-5)
    check_attention(flow, ops)
    assert {(name, *KERNELS[name]) for name, *_ in recorded.called} == set(recorded.called)


def check_attention(flow, ops):
    """Against the plain operations, for the masks that models make; sums of two masks too."""
    from pipeloom.plugins.executors.oneflow.cuda import ops_for

    plain, rng = ops_for("cpu"), np.random.default_rng(1)
    query, key, value = (as_global(flow, rng.standard_normal((2, 3, 5, 4)).astype(np.float32)) for _ in range(3))
    padding = np.where(np.arange(5) < np.array([5, 3])[:, None], 0.0, plain.MASKED).reshape(2, 1, 1, 5)
    causal = np.where(np.triu(np.ones((5, 5)), 1) > 0, plain.MASKED, 0.0).reshape(1, 1, 5, 5)
    for mask in (padding, causal, padding + causal):
        mask = as_global(flow, mask.astype(np.float32))
        both = [which.attention(query, key, value, mask, lambda p: p * 0.5).numpy() for which in (ops, plain)]
        np.testing.assert_allclose(*both, rtol=1e-5, atol=1e-6)


def test_products_with_bias_equal_numpy(flow):
    """This kernel runs on CPUs too, and its gradient."""
    from pipeloom.plugins.executors.oneflow.cuda import FusedOps

    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape) for shape in ((5, 4), (3, 4), (3,))]
    check_gradients(flow, FusedOps().linear, lambda x, w, b: x @ w.T + b, *arrays)
    gelu = lambda x: x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
    check_gradients(flow, FusedOps().gelu, gelu, np.linspace(-3, 3, 16))


def test_the_engine_takes_the_shapes_of_masks(flow):
    """It infers shapes before it looks for a kernel, which a CPU has not."""
    scores, no_kernel = flow.ones(2, 3, 5, 5), "kernel_not_found|Cannot find the kernel"
    for shape in ((2, 1, 1, 5), (1, 1, 5, 5), (2, 1, 5, 5)):
        mask = flow.ones(*shape) > 0
        with pytest.raises(RuntimeError, match=no_kernel):
            flow._C.fused_scale_mask_softmax(scores, mask, fill_value=-1.0, scale=0.5)
    with pytest.raises(RuntimeError) as refused:
        flow._C.fused_scale_mask_softmax(scores, flow.ones(2, 1, 1, 4) > 0, fill_value=-1.0, scale=0.5)
    assert "kernel_not_found" not in str(refused.value)


def test_which_operations_serve(flow):
    from pipeloom.plugins.executors.oneflow.cuda import FusedOps, ops_for
    from pipeloom.plugins.executors.oneflow.ops import CpuOps

    kinds = {(device, fused): type(ops_for(device, None, fused)) for device in ("cpu", "cuda") for fused in (0, 1)}
    assert kinds == {("cpu", 0): CpuOps, ("cpu", 1): CpuOps, ("cuda", 0): CpuOps, ("cuda", 1): FusedOps}


def test_settings_of_nccl_are_kept(flow):
    from pipeloom.plugins.executors.oneflow.cuda import Nccl

    def settings():
        session = flow.framework.session_context.GetDefaultSession()
        running = session.status_ == session.Status.INITED
        resource = session.resource if running else session.config_proto.resource
        boxing = resource.collective_boxing_conf
        return boxing.nccl_fusion_threshold_mb, boxing.nccl_fusion_max_ops, resource.nccl_use_compute_stream

    before = settings()
    Nccl().apply()
    assert settings() == before
    try:
        Nccl(7, 5, True).apply()
        assert settings() == (7, 5, True)
    finally:
        Nccl(*before).apply()


def test_copies_take_turns(flow):
    """With buffers that are not pinned, which needs a GPU."""
    from pipeloom.plugins.executors.oneflow.cuda import PinnedCopies

    made = []

    def make(array):
        made.append(flow.from_numpy(np.zeros_like(array)))
        return made[-1]

    copies = PinnedCopies("cpu", make)
    for step in range(5):
        for name, kind in (("a", np.int32), ("b", np.float32)):
            array = np.full((3, 2), step + (name == "b"), kind)
            sent = copies.send(name, array)
            assert sent.dtype == made[-1 if name == "b" else 0].dtype and (sent.numpy() == array).all()
    assert len(made) == 4
    assert hasattr(flow.Tensor, "pin_memory")


@pytest.mark.parametrize("name", CUDA_OPTIONS)
def test_cpus_have_no_use_for_these_options(name):
    config, plugins = parse(["--plugins", "inter_first,bert,wiki_ofrecord", "--device", "cpu", f"--{name}", "1"])
    with pytest.raises(UsageError, match=f"--{name} has no effect on CPUs"):
        make_plan(config, plugins)


def test_options_reach_the_engine():
    from pipeloom.plugins.executors.oneflow.cuda import Nccl

    flags = ["--fused_kernels", "false", "--nccl_fusion_mbytes", "3", "--nccl_fusion_ops", "4"]
    config, _ = parse(["--plugins", "inter_first,bert,wiki_ofrecord", *flags, "--nccl_compute_stream", "true"])
    assert OneFlow(config)._fused is False and Nccl.of(config) == Nccl(3, 4, True)
    config, _ = parse(["--plugins", "inter_first,bert,wiki_ofrecord"])
    assert OneFlow(config)._fused is True and Nccl.of(config) == Nccl()
