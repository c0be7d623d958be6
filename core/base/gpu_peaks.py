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


def gpu_peak(name: str, half_precision: bool) -> Optional[float]:
    """Return floating-point operations a second of the GPU that the driver calls ``name``; ``None`` for others."""
    words = f" {name.replace('-SXM', ' SXM')} "
    for known, single, half in _PEAKS:
        if f" {known} " in words or f" {known}-" in words or words.rstrip().endswith(f" {known}"):
            return (half if half_precision else single) * 1e12
    return None
