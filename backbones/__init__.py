"""Frozen vision models behind one contract: `load(name)` returns a `Backbone`.

A family of models is one file of this folder with a record `ENTRY`, or several in `ENTRIES`: a new
file is all it takes. Other packages add backbones through the entry point group
`heliograph.backbones` (`backbones.plugins`), and `timm:<model>` is any image model of timm
(`backbones.timm_models`).
"""

import os

from backbones import downloads, hub, weights
from backbones.base import Backbone, Entry, LoadOptions, Preprocess
from backbones.devices import has_bfloat16, resolve_device, resolve_devices
from backbones.errors import BackboneError, BackboneValueError, GpuError, machine_error
from backbones.outputs import MAPS, Maps, Output, Outputs, steps_of
from backbones.precision import cpu_matmul_setting, fast_float32
from backbones.registry import (
    BACKBONES,
    describe,
    find_entry,
    find_output,
    load,
    load_from_fingerprint,
    refuse_impossible,
)

__all__ = [
    "BACKBONES",
    "MAPS",
    "Backbone",
    "BackboneError",
    "BackboneValueError",
    "Entry",
    "GpuError",
    "LoadOptions",
    "Maps",
    "Output",
    "Outputs",
    "Preprocess",
    "cpu_matmul_setting",
    "describe",
    "downloads",
    "fast_float32",
    "find_entry",
    "find_output",
    "has_bfloat16",
    "hub",
    "load",
    "load_from_fingerprint",
    "machine_error",
    "refuse_impossible",
    "resolve_device",
    "resolve_devices",
    "steps_of",
    "weights",
]

# An Apple GPU leaves to the CPU what it has no kernel for; torch looks when it is imported.
os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
