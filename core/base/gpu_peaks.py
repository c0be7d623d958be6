"""What GPUs compute at best, by their data sheets."""

from __future__ import annotations

from typing import Optional, Tuple

#: In the driver's name of a GPU -> TFLOP/s in float32, and of products in float16 (by tensor cores where it has them,
#: dense). NVIDIA's data sheets; the more exact name first.
_PEAKS: Tuple[Tuple[str, float, float], ...] = (
    ("H100 PCIe", 51.0, 756.0),
    ("H100", 67.0, 989.0),
    ("H200", 67.0, 989.0),
    ("A100", 19.5, 312.0),
    ("A800", 19.5, 312.0),
    ("A40", 37.4, 149.7),
    ("A30", 10.3, 165.0),
    ("A10", 31.2, 125.0),
    ("L40", 90.5, 181.0),
    ("L4", 30.3, 121.0),
    ("V100-PCIE", 14.0, 112.0),
    ("V100", 15.7, 125.0),
    ("T4", 8.1, 65.0),
    ("P100-PCIE", 9.3, 18.7),
    ("P100", 10.6, 21.2),
    ("P40", 12.0, 0.18),
    ("M40", 7.0, 7.0),
    ("K80", 4.4, 4.4),
    ("RTX 4090", 82.6, 165.2),
    ("RTX 3090", 35.6, 71.0),
    ("RTX 2080 Ti", 13.4, 53.8),
)

#: In the driver's name of a GPU -> GB/s of its memory. NVIDIA's data sheets.
_BANDWIDTHS: Tuple[Tuple[str, float], ...] = (
    ("H100 PCIe", 2000.0),
    ("H100", 3350.0),
    ("H200", 4800.0),
    ("A100-SXM4-80GB", 2039.0),
    ("A100 80GB", 1935.0),
    ("A100", 1555.0),
    ("A800", 2039.0),
    ("A40", 696.0),
    ("A30", 933.0),
    ("A10", 600.0),
    ("L40", 864.0),
    ("L4", 300.0),
    ("V100", 900.0),
    ("T4", 320.0),
    ("P100", 732.0),
    ("P40", 346.0),
    ("M40", 288.0),
    ("K80", 240.0),
    ("RTX 4090", 1008.0),
    ("RTX 3090", 936.0),
    ("RTX 2080 Ti", 616.0),
)


def gpu_bandwidth(name: str) -> Optional[float]:
    """Return bytes a second of the memory of the GPU that the driver calls ``name``; ``None`` for others."""
    return next((rate * 1e9 for known, rate in _BANDWIDTHS if _is(name, known)), None)


def gpu_peak(name: str, half_precision: bool) -> Optional[float]:
    """Return floating-point operations a second of the GPU that the driver calls ``name``; ``None`` for others."""
    for known, single, half in _PEAKS:
        if _is(name, known):
            return (half if half_precision else single) * 1e12
    return None


def _is(name: str, known: str) -> bool:
    """Whether ``known`` stands as words in a driver's ``name``."""
    words = f" {name.replace('-SXM', ' SXM')} "
    known = known.replace("-SXM", " SXM")
    return f" {known} " in words or f" {known}-" in words or words.rstrip().endswith(f" {known}")
