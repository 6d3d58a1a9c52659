"""Name maps: the weights that a network's authors released, under the names that ours have.

A map is a list of rewritings of names, applied in order; shapes may differ by axes of length one. What does not fit
exactly (a name left over on either side, another number of values) is refused.
"""

import re
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from simulation.errors import CheckpointIncompatible

Rule = tuple[str, str | Callable[[re.Match[str]], str]]
"""A regular expression and what stands in its place."""


@dataclass(frozen=True)
class NameMap:
    """Where released weights come from, and how their names become ours."""

    repository: str
    """Of the authors' code, as it stood when the map was written."""
    licence: str
    """Of repository and weights, as stated there."""
    rules: tuple[Rule, ...]
    transposed: str = r"(?!)"
    """Matches our names of matrices that the authors store as [in, out]; ours are [out, in]."""

    def renamed(self, name: str) -> str:
        """Our name for one of theirs."""
        for pattern, replacement in self.rules:
            name = re.sub(pattern, replacement, name)
        return name

    def load(self, module: nn.Module, theirs: Mapping[str, Tensor]) -> None:
        """Put the authors' weights into our network; CheckpointIncompatible when one is missing or left over."""
        ours = module.state_dict()
        found = {self.renamed(name): tensor for name, tensor in theirs.items()}
        missing, unknown = sorted(ours.keys() - found.keys()), sorted(found.keys() - ours.keys())
        if missing or unknown or len(found) < len(theirs):
            raise CheckpointIncompatible(
                f"These weights are not those of {type(module).__name__} as configured: {_some(missing)} missing, "
                f"{_some(unknown)} left over. Expected the {len(ours)} tensors of {self.repository}; name the network "
                "that they belong to (`unmuffle import-weights --help` lists them)."
            )
        with torch.no_grad():
            for name, tensor in ours.items():
                theirs_or_turned = found[name].mT if re.search(self.transposed, name) else found[name]
                tensor.copy_(_shaped(theirs_or_turned, tensor, name))


def _shaped(found: Tensor, wanted: Tensor, name: str) -> Tensor:
    """Axes of length one are matters of taste."""
    if [size for size in found.shape if size > 1] != [size for size in wanted.shape if size > 1]:
        raise CheckpointIncompatible(
            f"{name} has the shape {tuple(found.shape)}, expected {tuple(wanted.shape)}. The weights are of another "
            "size; name the network that they belong to (`unmuffle import-weights --help` lists them)."
        )
    return found.reshape(wanted.shape)


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return f"{len(names)} ({shown}{', ...' if len(names) > 3 else ''})" if names else "none"


def _place(offset: int, before: str = "", after: str = "") -> Callable[[re.Match[str]], str]:
    """The first number of a match, moved."""
    return lambda match: f"{before}{int(match[1]) + offset}{after}"


_ATTENTION: tuple[Rule, ...] = (
    (r"in_proj_(weight|bias)", r"query_key_value.\1"),
    (r"out_proj", "out"),
)

_MP_SENET: tuple[Rule, ...] = (
    (r"^dense_encoder\.dense_conv_1\.", "encoder."),
    (r"^dense_encoder\.dense_conv_2\.(\d)", _place(4, "encoder.")),
    (r"^dense_encoder\.dense_block\.dense_block", "encoder.3.layers"),
    (r"^mask_decoder\.dense_block\.dense_block", "mask_decoder.dense.layers"),
    (r"^phase_decoder\.dense_block\.dense_block", "phase_decoder.trunk.0.layers"),
    (r"^mask_decoder\.mask_conv\.", "mask_decoder.head."),
    (r"^mask_decoder\.lsigmoid\.", "mask_decoder.mask."),
    (r"^phase_decoder\.phase_conv\.(\d)", _place(1, "phase_decoder.trunk.")),
    (r"^phase_decoder\.phase_conv_r", "phase_decoder.real"),
    (r"^phase_decoder\.phase_conv_i", "phase_decoder.imaginary"),
    *_ATTENTION,
)

MP_SENET_2023 = NameMap(
    "github.com/yxlu-0102/MP-SENet at 9eeb0f0 (August 2023)",
    "MIT",
    (
        *_MP_SENET,
        (r"^TSConformer\.(\d+)\.time_conformer", r"blocks.\1.time"),
        (r"^TSConformer\.(\d+)\.freq_conformer", r"blocks.\1.frequency"),
        (r"\.ffm1\.ffm\.", ".before."),
        (r"\.ffm2\.ffm\.", ".after."),
        (r"\.attn\.layernorm\.", ".attention.norm."),
        (r"\.attn\.attn\.", ".attention."),
        (r"\.ccm\.ccm\.0\.", ".convolution.norm."),
        (r"\.ccm\.ccm\.(\d)", _place(-2, ".convolution.layers.")),
        (r"\.post_norm\.", ".norm."),
    ),
)

MP_SENET_2024 = NameMap(
    "github.com/yxlu-0102/MP-SENet at 611cd89 (October 2024)",
    "MIT",
    (
        *_MP_SENET,
        (r"(?<=layers\.\d\.)(\d)", _place(-1)),
        (r"(mask_decoder\.head\.0|phase_decoder\.trunk\.1)\.conv\.", r"\1.convolution."),
        (r"^TSTransformer\.(\d+)\.time_transformer", r"blocks.\1.time"),
        (r"^TSTransformer\.(\d+)\.freq_transformer", r"blocks.\1.frequency"),
        (r"\.norm1\.", ".attention.norm."),
        (r"\.norm2\.", ".norm."),
        (r"\.norm3\.", ".last_norm."),
        (r"\.ffn\.gru\.", ".feed_forward.memory."),
        (r"\.ffn\.linear\.", ".feed_forward.out."),
    ),
)

RENET = NameMap(
    "github.com/wangchengzhong/RENet (March 2026)",
    "none stated",
    (
        (r"^dense_encoder\.dense_conv_1", "first"),
        (r"^dense_encoder\.dense_conv_3", "down"),
        (r"^(?:dense_)?(en|de)coder\.dense_block\.dense_block\.(\d)\.1\.", r"\1coder.layers.\2."),
        (r"^decoder\.upsample_layer", "up"),
        (r"(conv_a(?:mp|ng))\.conv\.", r"\1."),
        (r"\.conv_amp\.", ".magnitude."),
        (r"\.conv_ang\.conv_re\.weight", ".phase.real"),
        (r"\.conv_ang\.conv_im\.weight", ".phase.imaginary"),
        (r"\.norm_amp\.(gain|bias)_matrix", r".magnitude_norm.\1"),
        (r"\.norm_ang\.gain_matrix", ".phase_norm.gain"),
        (r"\.pconv_ang2amp\.", ".magnitude_gate.mix."),
        (r"\.pconv_amp2ang\.", ".phase_gate.mix."),
        (r"\.act_ang2amp\.", ".magnitude_gate."),
        (r"\.act_amp2ang\.", ".phase_gate."),
        (r"^TSTransformer\.(\d+)\.time_transformer", r"blocks.\1.time"),
        (r"^TSTransformer\.(\d+)\.freq_transformer", r"blocks.\1.frequency"),
        (r"\.norm1\.g$", ".norms.magnitude.weight"),
        (r"\.cnorm1\.gamma$", ".norms.phase.gain"),
        (r"\.norm2\.g$", ".middle_norms.magnitude.weight"),
        (r"\.cnorm2\.gamma$", ".middle_norms.phase.gain"),
        (r"\.norm3\.g$", ".last_norms.magnitude.weight"),
        (r"\.cnorm3\.gamma$", ".last_norms.phase.gain"),
        (r"\.att\.to_q_", ".attention.query."),
        (r"\.att\.to_k_", ".attention.key."),
        (r"\.att\.to_v_", ".attention.value."),
        (r"\.att\.to_out_amp\.", ".attention.magnitude_out."),
        (r"\.att\.to_out_ang\.", ".attention.phase_out."),
        (r"(query|key|value)\.amp\.", r"\1.magnitude."),
        (r"(query|key|value)\.ang\.", r"\1.phase."),
        (r"\.weight_r$", ".real"),
        (r"\.weight_i$", ".imaginary"),
        (r"\.amp_ffn\.gru\.", ".magnitude_feed_forward.memory."),
        (r"\.amp_ffn\.linear\.", ".magnitude_feed_forward.out."),
        (r"\.ang_ffn\.gate_ln\.", ".phase_feed_forward.norm."),
        (r"\.ang_ffn\.conv1d\.", ".phase_feed_forward.up."),
        (r"\.ang_ffn\.deconv1d\.", ".phase_feed_forward.down."),
        (r"\.conv_re\.weight$", ".real"),
        (r"\.conv_im\.weight$", ".imaginary"),
        (r"^decoder\.amp_conv_layer\.0\.", "magnitude_head."),
        (r"^decoder\.ang_conv\.", "phase_head."),
    ),
)

METRIC_DISCRIMINATOR = NameMap(
    "github.com/yxlu-0102/MP-SENet at 611cd89 (October 2024)",
    "MIT",
    (
        (r"weight_orig$", "parametrizations.weight.original"),
        (r"weight_([uv])$", r"parametrizations.weight.0._\1"),
    ),
)


def ncsnpp_parts(levels: int, blocks: int, attention: Container[int]) -> Iterator[str]:
    """Our name of each part of NCSN++ with weights, in the order of the authors' list; `attention`: levels with it."""
    yield from ("embedding", "embedding.first", "embedding.second", "first")
    for level in range(levels):
        for block in range(blocks):
            yield f"levels.{level}.blocks.{block}"
            if level in attention:
                yield f"levels.{level}.attentions.{block}"
        if level < levels - 1:
            yield from (f"levels.{level}.down", f"levels.{level}.mix")
    yield from ("before", "attention", "after")
    for rise, level in enumerate(reversed(range(levels))):
        yield from (f"rises.{rise}.blocks.{block}" for block in range(blocks + 1))
        if level in attention:
            yield f"rises.{rise}.attention"
        yield from (f"rises.{rise}.norm", f"rises.{rise}.picture")
        if level > 0:
            yield f"rises.{rise}.up"


def ncsnpp(levels: int, blocks: int, attention: Container[int]) -> NameMap:
    """The map of an NCSN++ of this shape, as the encoder and the generative decoder of GP-Unified."""
    parts = [
        part.replace("rises.", "generative.levels.") if part.startswith("rises.") else f"encoder.{part}"
        for part in ncsnpp_parts(levels, blocks, attention)
    ]
    return NameMap(
        "github.com/sp-uhh/sgmse at ae690e8 (February 2026)",
        "MIT",
        (
            (r"^dnn\.", ""),
            (r"^output_layer\.", "generative.head."),
            (r"^all_modules\.(\d+)\.", lambda match: f"{parts[int(match[1])]}."),
            (r"embedding\.W$", "embedding.frequencies"),
            (r"\.mix\.Conv_0\.", ".mix."),
            (r"\.GroupNorm_0\.", ".norm."),
            (r"\.GroupNorm_1\.", ".last_norm."),
            (r"\.Conv_0\.", ".convolution."),
            (r"\.Conv_1\.", ".last_convolution."),
            (r"\.Conv_2\.", ".shortcut."),
            (r"\.Dense_0\.", ".time."),
            (r"\.NIN_0\.", ".query."),
            (r"\.NIN_1\.", ".key."),
            (r"\.NIN_2\.", ".value."),
            (r"\.NIN_3\.", ".out."),
            (r"\.W$", ".weight"),
            (r"\.b$", ".bias"),
        ),
        transposed=r"\.(query|key|value|out)\.weight$",
    )


SGMSE = ncsnpp(levels=7, blocks=2, attention=(4,))
