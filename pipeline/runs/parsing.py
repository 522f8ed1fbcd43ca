"""What the files of a run folder hold, parsed from their bytes."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from typing import Any

import safetensors.torch
from torch import Tensor

from pipeline.agents import refuse_unusable
from pipeline.runs.results import HistoryRow


def parse_object(content: bytes) -> dict[str, Any]:
    """Return a JSON object; raises ValueError for anything else."""
    stored = json.loads(content)
    if not isinstance(stored, dict):
        raise ValueError("it is no object")
    return stored


def parse_history(content: bytes) -> list[HistoryRow]:
    """Return the rows of `history.csv`; raises ValueError or TypeError for anything else."""
    names = [column.name for column in dataclasses.fields(HistoryRow)]
    text = io.StringIO(content.decode(), newline="")
    cells = [[float(row[name] or "nan") for name in names] for row in csv.DictReader(text)]
    return [HistoryRow(int(seed), int(epoch), *rest) for seed, epoch, *rest in cells]


def parse_weights(content: bytes) -> dict[str, Tensor]:
    """Return the tensors of `model.safetensors`; raises ValueError for what no training gives."""
    try:
        weights = safetensors.torch.load(content)
    except safetensors.SafetensorError as error:
        raise ValueError("it is no .safetensors file, or was cut short") from error
    refuse_unusable(weights)
    return weights
