"""Weights that authors released: every name finds its place, and nothing but tensors is read."""

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from simulation.errors import BadSetting, CheckpointIncompatible, UnknownName
from training.checkpoint import load_version, version_record
from training.import_weights import RELEASED, Released, import_weights, network_weights
from training.models import GpUnified, MpSenet, ReNet
from training.models.gp_unified import Sampling
from training.name_maps import RENET, NameMap, ncsnpp
from training.tracking import Tracking

SMALL = ReNet.Config(
    magnitude_channels=2, phase_channels=1, blocks=1, heads=1, magnitude_head=2, phase_head=1, glu_width=64
)
SCORE = GpUnified.Config(
    channels=4,
    multipliers=(1, 2, 1),
    blocks=1,
    attention_bins=(64,),
    predictive_decoder=False,
    sampling=Sampling(mode="generative"),
)
WB = ("weight", "bias")


def renet_names(blocks: int) -> Iterator[str]:
    """The names in the state dict of the authors' RENet."""
    plain = ("conv_amp.weight", "conv_amp.bias", "conv_ang.conv_re.weight", "conv_ang.conv_im.weight")
    norms = ("norm_amp.gain_matrix", "norm_amp.bias_matrix", "norm_ang.gain_matrix")
    gates = tuple(f"pconv_{way}.{kind}" for way in ("ang2amp", "amp2ang") for kind in ("weight", "bias"))
    gates += ("act_ang2amp.slope", "act_amp2ang.slope")
    yield from (f"dense_encoder.dense_conv_1.{name}" for name in plain + norms)
    for place in range(4):
        for stack in ("dense_encoder", "decoder"):
            yield from (f"{stack}.dense_block.dense_block.{place}.1.{name}" for name in plain + norms + gates)
    yield from (f"dense_encoder.dense_conv_3.{name}" for name in plain + norms + gates)
    up = tuple(name.replace(".", ".conv.", 1) for name in plain)
    yield from (f"decoder.upsample_layer.{name}" for name in up + norms + gates)
    yield from ("decoder.amp_conv_layer.0.weight", "decoder.amp_conv_layer.0.bias")
    yield from ("decoder.ang_conv.conv_re.weight", "decoder.ang_conv.conv_im.weight")
    layer = [f"norm{place}.g" for place in (1, 2, 3)] + [f"cnorm{place}.gamma" for place in (1, 2, 3)]
    layer += [f"att.to_{what}_amp.weight" for what in ("q", "k", "v", "out")] + ["att.to_out_amp.bias"]
    layer += [f"att.to_{what}_ang.weight_{part}" for what in ("q", "k", "v", "out") for part in "ri"]
    layer += [f"amp_ffn.{name}" for name in gru_names()] + ["amp_ffn.linear.weight", "amp_ffn.linear.bias"]
    layer += [f"ang_ffn.{way}.conv_{part}.weight" for way in ("conv1d", "deconv1d") for part in ("re", "im")]
    layer += ["ang_ffn.gate_ln.weight", "ang_ffn.gate_ln.bias"]
    for block in range(blocks):
        for axis in ("time", "freq"):
            yield from (f"TSTransformer.{block}.{axis}_transformer.{name}" for name in layer)


def gru_names() -> list[str]:
    """The names of a recurrent layer that reads both ways."""
    kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return [f"gru.{kind}_l0{way}" for kind in kinds for way in ("", "_reverse")]


def mp_senet_names(edition: str, blocks: int) -> Iterator[str]:
    """The names in the state dict of the authors' MP-SENet."""
    new = edition == "2024"

    def stage(prefix: str, first: int) -> Iterator[str]:
        for offset, kinds in enumerate((("weight", "bias"), ("weight", "bias"), ("weight",))):
            yield from (f"{prefix}.{first + offset}.{kind}" for kind in kinds)

    for part in ("dense_encoder", "mask_decoder", "phase_decoder"):
        for place in range(4):
            yield from stage(f"{part}.dense_block.dense_block.{place}", int(new))
    yield from stage("dense_encoder.dense_conv_1", 0)
    yield from stage("dense_encoder.dense_conv_2", 0)
    head = ["0.conv", "1", "3"] if new else ["0", "1", "2", "4"]
    yield from (f"mask_decoder.mask_conv.{name}.{kind}" for name in head for kind in ("weight", "bias"))
    yield f"mask_decoder.mask_conv.{2 if new else 3}.weight"
    yield "mask_decoder.lsigmoid.slope"
    for name in ("0.conv" if new else "0", "1"):
        yield from (f"phase_decoder.phase_conv.{name}.{kind}" for kind in ("weight", "bias"))
    yield "phase_decoder.phase_conv.2.weight"
    yield from (f"phase_decoder.phase_conv_{part}.{kind}" for part in "ri" for kind in ("weight", "bias"))
    for block in range(blocks):
        for axis in ("time", "freq"):
            layer = mp_senet_layer_names(new)
            prefix = f"TS{'Transformer' if new else 'Conformer'}.{block}.{axis}_{'trans' if new else 'con'}former"
            yield from (f"{prefix}.{name}" for name in layer)


def mp_senet_layer_names(new: bool) -> list[str]:
    """The names in one of its transformers or conformers."""
    attention = ["in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias"]
    if new:
        norms = [f"norm{place}.{kind}" for place in (1, 2, 3) for kind in ("weight", "bias")]
        feed_forward = [f"ffn.{name}" for name in [*gru_names(), "linear.weight", "linear.bias"]]
        return norms + [f"attention.{name}" for name in attention] + feed_forward
    pairs = [f"ffm{half}.ffm.{place}" for half in (1, 2) for place in (0, 1, 4)]
    pairs += [f"ccm.ccm.{place}" for place in (0, 2, 4, 5, 7)] + ["attn.layernorm", "post_norm"]
    buffers = [f"ccm.ccm.5.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")]
    return [
        *(f"{name}.{kind}" for name in pairs for kind in ("weight", "bias")),
        *(f"attn.attn.{name}" for name in attention),
        *buffers,
    ]


def sgmse_names(config: GpUnified.Config) -> Iterator[str]:
    """The names in the state dict of SGMSE+'s NCSN++, as its trainer saves them."""
    shape = config.shape
    widths, waiting = list(shape.widths), shape.skips
    block = [
        f"{layer}.{kind}" for layer in ("GroupNorm_0", "Conv_0", "Dense_0", "GroupNorm_1", "Conv_1") for kind in WB
    ]
    attention = [
        *(f"GroupNorm_0.{kind}" for kind in WB),
        *(f"NIN_{place}.{kind}" for place in range(4) for kind in "Wb"),
    ]
    direct, turned = block, [*block, *(f"Conv_2.{kind}" for kind in WB)]
    parts: list[list[str] | tuple[str, ...]] = [["W"], WB, WB, WB]
    came = shape.channels
    for level, width in enumerate(widths):
        for _ in range(shape.blocks):
            parts.append(direct if came == width else turned)
            parts += [attention] * shape.attends(level)
            came = width
        if level < len(widths) - 1:
            parts += [turned, [f"Conv_0.{kind}" for kind in WB]]
    parts += [direct, attention, direct]
    for level in reversed(range(len(widths))):
        for _ in range(shape.blocks + 1):
            waiting.pop()
            parts.append(turned)
        parts += [attention] * shape.attends(level)
        parts += [WB, WB]
        parts += [turned] * (level > 0)
    assert not waiting
    yield from ("dnn.output_layer.weight", "dnn.output_layer.bias")
    yield from (f"dnn.all_modules.{place}.{name}" for place, names in enumerate(parts) for name in names)


@pytest.mark.parametrize("name", sorted(RELEASED))
def test_every_name_of_the_authors_finds_its_place(name: str) -> None:
    """One name of theirs for each of ours, with none left over on either side."""
    released = RELEASED[name]
    config = released.config
    if isinstance(config, MpSenet.Config):
        theirs = list(mp_senet_names(config.edition, config.blocks))
    elif isinstance(config, GpUnified.Config):
        theirs = list(sgmse_names(config))
    else:
        theirs = list(renet_names(config.blocks))
    with torch.device("meta"):
        ours = config.build().state_dict()
    found = [released.names.renamed(each) for each in theirs]
    assert sorted(found) == sorted(ours)


@pytest.fixture
def tracking(tmp_path: Path) -> Tracking:
    """A registry of its own."""
    return Tracking(uri=f"sqlite:///{tmp_path / 'mlflow.db'}", journal=f"file://{tmp_path / 'journal'}")


@pytest.fixture
def released(monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """A small network among the released ones, and weights for it under the authors' names."""
    monkeypatch.setitem(RELEASED, "small", Released(SMALL, RENET))
    torch.manual_seed(0)
    ours = SMALL.build().state_dict()
    return {name: ours[RENET.renamed(name)].clone() for name in renet_names(SMALL.blocks)}


@pytest.mark.parametrize("form", ["torch", "wrapped", "safetensors"])
def test_released_weights_become_a_version(
    form: str, released: dict[str, torch.Tensor], tracking: Tracking, tmp_path: Path
) -> None:
    """Under our names, registered with where they are from and under which licence; a second time changes nothing."""
    file = tmp_path / ("g_best.safetensors" if form == "safetensors" else "g_best")
    if form == "safetensors":
        save_file(released, file)
    else:
        torch.save({"generator": released, "steps": 3} if form == "wrapped" else released, file)
    version = import_weights("small", file, "denoise-16k", f"file://{tmp_path / 'store'}", tracking)
    assert version.name == "renet/1"
    assert version.tags["origin"] == RENET.repository
    assert version.tags["licence"] == "none stated"
    assert version_record(version.address).facts["file_sha256"] == version.tags["file_sha256"]
    loaded = load_version(version.address).state_dict()
    for name, tensor in released.items():
        assert torch.equal(loaded[RENET.renamed(name)].flatten(), tensor.flatten()), name
    again = import_weights("small", file, "denoise-16k", f"file://{tmp_path / 'store'}", tracking)
    assert again.version == version.version


class SpecsDataModule:
    """A class that SGMSE+'s trainer names among its settings."""


SpecsDataModule.__module__ = "sgmse.data_module"


@pytest.mark.parametrize("frozen_too", [True, False])
def test_averages_of_a_diffusion_model_are_taken_from_its_trainers_checkpoint(
    frozen_too: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the place of the weights that they are averages of, in the order of these; its settings are not looked at."""
    torch.manual_seed(0)
    state = {name: torch.randn(()) for name in sgmse_names(SCORE)}
    frozen = "dnn.all_modules.0.W"
    averages = [tensor + 1 for name, tensor in state.items() if frozen_too or name != frozen]
    settings = ModuleType("sgmse.data_module")
    settings.SpecsDataModule = SpecsDataModule  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sgmse", ModuleType("sgmse"))
    monkeypatch.setitem(sys.modules, "sgmse.data_module", settings)
    ema = {"decay": 0.999, "num_updates": 3, "shadow_params": averages, "collected_params": None}
    checkpoint = {"state_dict": state, "ema": ema, "hyper_parameters": {"data_module_cls": SpecsDataModule}}
    file, short = tmp_path / "epoch=1.ckpt", tmp_path / "short.ckpt"
    torch.save(checkpoint, file)
    torch.save(checkpoint | {"ema": ema | {"shadow_params": averages[:5]}}, short)
    monkeypatch.delitem(sys.modules, "sgmse.data_module")
    found = network_weights(file.read_bytes(), file)
    assert list(found) == list(state)
    for name, tensor in state.items():
        assert found[name] == (tensor if name == frozen and not frozen_too else tensor + 1), name
    with pytest.raises(CheckpointIncompatible, match="5 averages for"):
        network_weights(short.read_bytes(), short)


def test_matrices_that_authors_store_the_other_way_round_are_turned() -> None:
    """Queries, keys, values and outputs of SGMSE+'s attention are [in, out]; ours are [out, in]."""
    names = ncsnpp(levels=3, blocks=1, attention=(2,))
    torch.manual_seed(0)
    model = SCORE.build()
    ours = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    theirs = {}
    for name in sgmse_names(SCORE):
        tensor = ours[names.renamed(name)]
        theirs[name] = tensor.mT if "NIN" in name and name.endswith("W") else tensor
    names.load(model, {name: tensor + 1 for name, tensor in theirs.items()})
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, ours[name] + 1), name


class Planted:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return Path.touch, (Path("planted"),)  # type: ignore[return-value]


def test_code_in_a_pickle_is_never_run(
    released: dict[str, torch.Tensor], tracking: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused, and leaves no trace."""
    monkeypatch.chdir(tmp_path)
    torch.save({"generator": released, "extra": Planted()}, "by_torch")
    Path("plain").write_bytes(pickle.dumps({"generator": {}, "extra": Planted()}))
    Path("text").write_text("not weights at all")
    Path("line").write_text("hi\n")
    for name in ("by_torch", "plain", "text", "line"):
        with pytest.raises(CheckpointIncompatible, match=r"code in a pickle is never run.*safetensors"):
            import_weights("small", Path(name), "denoise-16k", f"file://{tmp_path / 'store'}", tracking)
    assert not Path("planted").exists()
    assert not Path("store").exists()


def test_weights_of_another_network_are_refused(
    released: dict[str, torch.Tensor], tracking: Tracking, tmp_path: Path
) -> None:
    """A name missing, one left over, another size, values that are not finite, no tensors, no file."""
    store, file = f"file://{tmp_path / 'store'}", tmp_path / "weights"
    first = next(iter(released))
    cases: dict[str, dict[str, Any]] = {
        r"1 \(first.magnitude.weight\) missing": {k: v for k, v in released.items() if k != first},
        r"1 \(surplus\) left over": released | {"surplus": torch.zeros(1)},
        r"shape \(9, 1, 1, 1\), expected \(2, 1, 1, 1\)": released | {first: torch.zeros(9, 1, 1, 1)},
        "not finite in first.magnitude.weight": released | {first: released[first] * torch.nan},
        "holds no tensors by name": {"steps": 3},
    }
    for message, state in cases.items():
        torch.save(state, file)
        with pytest.raises(CheckpointIncompatible, match=message):
            import_weights("small", file, "denoise-16k", store, tracking)
    with pytest.raises(BadSetting, match="cannot be read"):
        import_weights("small", tmp_path / "none", "denoise-16k", store, tracking)
    with pytest.raises(UnknownName, match="mp_senet_2024"):
        import_weights("mp_senet", file, "denoise-16k", store, tracking)
    with pytest.raises(BadSetting, match="16000 Hz"):
        import_weights("small", file, "fullband-48k", store, tracking)


def test_two_names_that_fall_together_are_refused() -> None:
    """A map that loses a tensor is no map."""
    layer = torch.nn.Linear(2, 1, bias=False)
    careless = NameMap("here", "MIT", ((r"\d", ""),))
    with pytest.raises(CheckpointIncompatible):
        careless.load(layer, {"weight1": torch.zeros(1, 2), "weight2": torch.ones(1, 2)})
