"""Models whose code lies with their checkpoints and not in transformers, written down from their papers and that code
as classes of transformers.

Importing this registers them, so that AutoConfig and AutoModelForCausalLM know their model types. Parameters carry the
names of the published files; the formulas are plain torch and run in float64. check_checkpoint_code.py holds those
whose own code needs a GPU's kernels against that code.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertConfig,
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertPreTrainedModel,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import BaseModelOutputWithPooling, CausalLMOutput
from transformers.models.bert.modeling_bert import BertEmbeddings, BertPooler


def attend(q, k, v, window=None):
    """q [T, H, D], k [T, G, D], v [T, G, E] -> [T, H, E]: causal, head h sees keys h // (H / G)."""
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    n = torch.arange(len(q))
    back = n[:, None] - n[None, :]
    seen = (back >= 0) & (back < (window or len(q)))
    scores = torch.einsum("thd,shd->hts", q, k) / math.sqrt(q.shape[-1])
    return torch.einsum("hts,she->the", scores.masked_fill(~seen, -torch.inf).softmax(-1), v)


class RmsNorm(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x):
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)


class Phi4FlashConfig(PretrainedConfig):
    """modeling_phi4flash.py of microsoft/Phi-4-mini-flash-reasoning, without its rounding to bfloat16."""

    model_type = "phi4flash"

    def __init__(
        self,
        vocab_size=67,
        hidden_size=32,
        intermediate_size=40,
        num_hidden_layers=8,
        num_attention_heads=4,
        num_key_value_heads=2,
        hidden_act="silu",
        max_position_embeddings=4096,
        layer_norm_eps=1e-5,
        sliding_window=8,
        mb_per_layer=2,
        mamba_d_state=16,
        mamba_d_conv=4,
        mamba_expand=2,
        tie_word_embeddings=True,
        **more,
    ):
        self.vocab_size, self.hidden_size, self.intermediate_size, self.num_hidden_layers = (
            vocab_size,
            hidden_size,
            intermediate_size,
            num_hidden_layers,
        )
        self.num_attention_heads, self.num_key_value_heads, self.hidden_act = (
            num_attention_heads,
            num_key_value_heads,
            hidden_act,
        )
        self.max_position_embeddings, self.layer_norm_eps, self.sliding_window, self.mb_per_layer = (
            max_position_embeddings,
            layer_norm_eps,
            sliding_window,
            mb_per_layer,
        )
        self.mamba_d_state, self.mamba_d_conv, self.mamba_expand = mamba_d_state, mamba_d_conv, mamba_expand
        super().__init__(tie_word_embeddings=tie_word_embeddings, **more)


class DifferentialPairs(nn.Module):
    def __init__(self, head_dim, layer):
        super().__init__()
        for name in ("lambda_q1", "lambda_k1", "lambda_q2", "lambda_k2"):
            setattr(self, name, nn.Parameter(0.1 * torch.randn(head_dim)))
        self.first, self.subln = 0.8 - 0.6 * math.exp(-0.3 * layer), RmsNorm(2 * head_dim, 1e-5)

    def forward(self, q, k, v, window):
        """Heads 2i and 2i + 1 are a pair; both see the values of both heads of their pair of keys."""
        v = torch.cat([v[:, 0::2], v[:, 1::2]], -1)
        one, other = (attend(q[:, i::2], k[:, i::2], v, window) for i in (0, 1))
        share = torch.exp(self.lambda_q1 @ self.lambda_k1) - torch.exp(self.lambda_q2 @ self.lambda_k2) + self.first
        return (self.subln(one - share * other) * (1 - self.first)).flatten(1)


class SambaYAttention(nn.Module):
    def __init__(self, c, layer, is_cross):
        super().__init__()
        self.heads, self.groups, self.size, self.is_cross = (
            c.num_attention_heads,
            c.num_key_value_heads,
            c.hidden_size // c.num_attention_heads,
            is_cross,
        )
        self.window = c.sliding_window if layer < c.num_hidden_layers // 2 else None
        self.Wqkv = nn.Linear(c.hidden_size, self.size * (self.heads + (0 if is_cross else 2 * self.groups)))
        self.out_proj = nn.Linear(c.hidden_size, c.hidden_size)
        self.inner_cross_attn = DifferentialPairs(self.size, layer)

    def forward(self, x, kept):
        q, k, v = (
            self.Wqkv(x)
            .unflatten(-1, (-1, self.size))
            .split([self.heads, 0, 0] if self.is_cross else [self.heads, self.groups, self.groups], 1)
        )
        if not self.is_cross:
            kept["k"], kept["v"] = k, v
        return self.out_proj(self.inner_cross_attn(q, kept["k"], kept["v"], self.window))


class SambaYMamba(nn.Module):
    def __init__(self, c, is_cross):
        super().__init__()
        self.states, self.is_cross = c.mamba_d_state, is_cross
        inner, self.rank = c.mamba_expand * c.hidden_size, math.ceil(c.hidden_size / 16)
        self.in_proj = nn.Linear(c.hidden_size, inner if is_cross else 2 * inner, bias=False)
        self.out_proj = nn.Linear(inner, c.hidden_size, bias=False)
        if is_cross:
            return
        self.conv1d = nn.Conv1d(inner, inner, c.mamba_d_conv, groups=inner, padding=c.mamba_d_conv - 1)
        self.x_proj = nn.Linear(inner, self.rank + 2 * self.states, bias=False)
        self.dt_proj = nn.Linear(self.rank, inner)
        self.A_log = nn.Parameter(torch.log(torch.arange(1, self.states + 1).float()).repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))

    def forward(self, x, kept):
        if self.is_cross:
            return self.out_proj(F.silu(self.in_proj(x)) * kept["memory"])
        u, z = self.in_proj(x).chunk(2, -1)
        u = F.silu(self.conv1d(u.T)[:, : len(x)].T)
        dt, b, c = self.x_proj(u).split([self.rank, self.states, self.states], -1)
        dt, a, h, y = F.softplus(self.dt_proj(dt)), -torch.exp(self.A_log), 0, []
        for t in range(len(x)):
            h = torch.exp(dt[t, :, None] * a) * h + (dt[t] * u[t])[:, None] * b[t]
            y.append(h @ c[t] + self.D * u[t])
        kept["memory"] = torch.stack(y)
        return self.out_proj(F.silu(z) * kept["memory"])


class FlashMlp(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.fc1, self.fc2 = (
            nn.Linear(c.hidden_size, 2 * c.intermediate_size, bias=False),
            nn.Linear(c.intermediate_size, c.hidden_size, bias=False),
        )

    def forward(self, x):
        gate, up = self.fc1(x).chunk(2, -1)
        return self.fc2(F.silu(gate) * up)


class SambaYLayer(nn.Module):
    def __init__(self, c, layer):
        super().__init__()
        is_cross = layer >= c.num_hidden_layers // 2 + 2
        self.attn = SambaYMamba(c, is_cross) if layer % 2 == 0 else SambaYAttention(c, layer, is_cross)
        self.mlp = FlashMlp(c)
        self.input_layernorm, self.post_attention_layernorm = (
            nn.LayerNorm(c.hidden_size, c.layer_norm_eps) for _ in range(2)
        )

    def forward(self, x, kept):
        x = x + self.attn(self.input_layernorm(x), kept)
        return x + self.mlp(self.post_attention_layernorm(x))


class Phi4FlashModel(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.embed_tokens = nn.Embedding(c.vocab_size, c.hidden_size)
        self.layers = nn.ModuleList(SambaYLayer(c, i) for i in range(c.num_hidden_layers))
        self.final_layernorm = nn.LayerNorm(c.hidden_size, c.layer_norm_eps)

    def forward(self, ids):
        x, kept = self.embed_tokens(ids), {}
        for layer in self.layers:
            x = layer(x, kept)
        return self.final_layernorm(x)


class OneText(PreTrainedModel):
    """A model of one text at a time."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}

    def __init__(self, config, model):
        super().__init__(config)
        self.model = model
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def _init_weights(self, module):
        pass  # as torch begins

    def get_input_embeddings(self):
        return self.model.embed_tokens

    def get_output_embeddings(self):
        return self.lm_head

    def forward(self, input_ids, **_):
        return CausalLMOutput(logits=torch.stack([self.lm_head(self.model(ids)) for ids in input_ids]))


class Phi4FlashForCausalLM(OneText):
    config_class = Phi4FlashConfig

    def __init__(self, config):
        super().__init__(config, Phi4FlashModel(config))


class JinaBertConfig(BertConfig):
    """modeling_bert.py of jinaai/jina-bert-implementation; has_key_norms: of jinaai/jina-bert-v2-qk-post-norm."""

    def __init__(self, feed_forward_type="geglu", emb_pooler="mean", has_key_norms=False, **more):
        super().__init__(**more)
        self.feed_forward_type, self.emb_pooler, self.has_key_norms = feed_forward_type, emb_pooler, has_key_norms
        self.position_embedding_type = "alibi"

    def to_dict(self):
        return {k: v for k, v in super().to_dict().items() if k != "has_key_norms"}


def alibi_slopes(heads):
    if heads & (heads - 1) == 0:
        first = 2 ** (-(2 ** -(math.log2(heads) - 3)))
        return [first * first**i for i in range(heads)]
    whole = 2 ** math.floor(math.log2(heads))
    return alibi_slopes(whole) + alibi_slopes(2 * whole)[::2][: heads - whole]


class JinaBertAttention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.heads, width = c.num_attention_heads, c.hidden_size
        self.self = nn.ModuleDict({name: nn.Linear(width, width) for name in ("query", "key", "value")})
        if c.has_key_norms:
            for name in ("layer_norm_q", "layer_norm_k"):
                self.self[name] = nn.LayerNorm(width, c.layer_norm_eps)
        self.has_key_norms = c.has_key_norms
        self.output = nn.ModuleDict(
            {"dense": nn.Linear(width, width), "LayerNorm": nn.LayerNorm(width, c.layer_norm_eps)}
        )

    def forward(self, x, bias):
        """x [1, T, width] and the result, normed together."""
        q, k, v = (self.self[name](x) for name in ("query", "key", "value"))
        if self.has_key_norms:
            q, k = self.self["layer_norm_q"](q), self.self["layer_norm_k"](k)
        q, k, v = (y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in (q, k, v))
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]) + bias
        y = self.output["dense"]((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
        return self.output["LayerNorm"](x + y)


class JinaBertLayer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.has_key_norms, self.act = c.has_key_norms, F.gelu if c.feed_forward_type == "geglu" else F.relu
        names = ("up_gated_layer", "down_layer") if c.has_key_norms else ("gated_layers", "wo")
        self.names = names
        self.attention = JinaBertAttention(c)
        self.mlp = nn.ModuleDict(
            {
                names[0]: nn.Linear(c.hidden_size, 2 * c.intermediate_size, bias=False),
                names[1]: nn.Linear(c.intermediate_size, c.hidden_size),
            }
        )
        if c.has_key_norms:
            self.layer_norm_1, self.layer_norm_2 = (nn.LayerNorm(c.hidden_size, c.layer_norm_eps) for _ in range(2))
        else:
            self.mlp["layernorm"] = nn.LayerNorm(c.hidden_size, c.layer_norm_eps)

    def forward(self, x, bias):
        y = self.attention(x, bias)
        if self.has_key_norms:
            y = self.layer_norm_1(x + y)
        one, other = self.mlp[self.names[0]](y).chunk(2, -1)
        gated = one * self.act(other) if self.has_key_norms else self.act(one) * other
        return (self.layer_norm_2 if self.has_key_norms else self.mlp["layernorm"])(y + self.mlp[self.names[1]](gated))


class JinaBertModel(BertPreTrainedModel):
    config_class = JinaBertConfig

    def __init__(self, config, add_pooling_layer=True):
        super().__init__(config)
        self.embeddings = BertEmbeddings(config)
        del self.embeddings.position_embeddings
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(map(JinaBertLayer, [config] * config.num_hidden_layers))})
        self.pooler = BertPooler(config) if add_pooling_layer else None
        self.post_init()

    def get_input_embeddings(self):
        return self.embeddings.word_embeddings

    def forward(self, input_ids, attention_mask=None, token_type_ids=None, **_):
        types = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        e, n = self.embeddings, torch.arange(input_ids.shape[1])
        x = e.LayerNorm(e.word_embeddings(input_ids) + e.token_type_embeddings(types))
        slopes = torch.tensor(alibi_slopes(self.config.num_attention_heads), dtype=torch.float32).to(x.dtype)
        bias = -slopes[:, None, None] * (n[None, :] - n[:, None]).abs()
        if attention_mask is not None:
            bias = bias + (1 - attention_mask.to(x.dtype)) * torch.finfo(x.dtype).min
        for layer in self.encoder["layer"]:
            x = layer(x, bias)
        return BaseModelOutputWithPooling(x, self.pooler(x) if self.pooler else None)


def with_jina_body(head):
    """The head's class around Jina's model."""

    def __init__(self, config):
        head.__init__(self, config)
        self.bert = JinaBertModel(config, add_pooling_layer=self.bert.pooler is not None)
        self.post_init()

    return type("Jina" + head.__name__, (head,), {"config_class": JinaBertConfig, "__init__": __init__})


AutoModel.register(JinaBertConfig, JinaBertModel)
AutoModelForMaskedLM.register(JinaBertConfig, with_jina_body(BertForMaskedLM))
AutoModelForSequenceClassification.register(JinaBertConfig, with_jina_body(BertForSequenceClassification))
AutoModelForTokenClassification.register(JinaBertConfig, with_jina_body(BertForTokenClassification))
AutoModelForQuestionAnswering.register(JinaBertConfig, with_jina_body(BertForQuestionAnswering))

for kind in (Phi4FlashForCausalLM,):
    AutoConfig.register(kind.config_class.model_type, kind.config_class)
    AutoModelForCausalLM.register(kind.config_class, kind)
