"""What the makers of series and of sound share: how a family is drawn and tried, and changes to the original code
without which a float64 run is none."""

from dataclasses import dataclass

import torch
import transformers


@dataclass
class Family:
    """draw(rng): keyword arguments of a configuration; tasks: names of classes; trial(task, model, ...): a Trial."""

    config_class: str
    tasks: tuple
    draw: object
    trial: object


@dataclass
class Trial:
    """inputs as the program takes them; run(model) gives outputs by name; options of `runnel eval`."""

    inputs: dict
    run: object
    options: tuple = ()


def attend(module, query, key, value, attention_mask, scaling, dropout=0.0, **kwargs):
    """Eager attention in the type of its inputs: some models take the softmax in float32, where masks of a float64 run
    are infinite."""
    groups = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(groups, dim=1) for x in (key, value))
    scores = query @ key.transpose(2, 3) * scaling
    weights = torch.softmax(scores if attention_mask is None else scores + attention_mask, dim=-1)
    return (weights @ value).transpose(1, 2).contiguous(), weights


def nearest(self, hidden_states):
    """Mimi's own takes distances by a product in float32, which is off by more than two codes may lie apart."""
    return torch.cdist(hidden_states, self.embed, compute_mode="donot_use_mm_for_euclid_dist").argmin(dim=-1)


def compute_in_own_type():
    models = transformers.models
    models.mimi.modeling_mimi.MimiEuclideanCodebook.quantize = nearest
    models.timesfm.modeling_timesfm.simple_eager_attention_forward = attend
    for module in (
        models.timesfm2_5.modeling_timesfm2_5,
        models.moonshine.modeling_moonshine,
        models.moonshine_streaming.modeling_moonshine_streaming,
        models.parakeet.modeling_parakeet,
    ):
        module.eager_attention_forward = attend
