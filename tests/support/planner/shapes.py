"""Models in the shapes of real ones: a true header and tensor table, no data.

Dimensions are those the makers publish; the quantisation is one type per role, close to Q4_K_M.
`tokenizer.ggml.model = no_vocab` with `{arch}.vocab_size` is enough for memory questions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from llmstack.gguf import GgmlType, GgufHeader, read_header
from llmstack.gguf.writer import F32, I32, U32, Tensor, Value, header

Q4, Q6, Q8, F, IQ3, MX = (
    GgmlType.Q4_K,
    GgmlType.Q6_K,
    GgmlType.Q8_0,
    GgmlType.F32,
    GgmlType.IQ3_S,
    GgmlType.MXFP4,
)


@dataclass(frozen=True, slots=True)
class Shape:
    name: str
    metadata: dict[str, Value]
    tensors: tuple[Tensor, ...]

    @property
    def arch(self) -> str:
        return str(self.metadata["general.architecture"])

    @property
    def moe(self) -> bool:
        return f"{self.arch}.expert_count" in self.metadata

    def write(self, folder: Path) -> Path:
        """A sparse file: a few KB on disk, the full size by `stat`."""
        path = folder / f"{self.name}.gguf"
        data, size = header(self.metadata, self.tensors)
        with path.open("wb") as stream:
            stream.write(data)
            stream.truncate(size)
        return path

    def header(self) -> GgufHeader:
        data, size = header(self.metadata, self.tensors)
        return read_header(_Bytes(data), size)


@dataclass(frozen=True, slots=True)
class _Bytes:
    data: bytes

    def read_at(self, offset: int, length: int) -> bytes:
        return self.data[offset : offset + length]


@dataclass(slots=True)
class _Build:
    """Collects keys and tensors; `q` is the type of the big matrices, rows that don't fit it become Q8_0."""

    name: str
    arch: str
    d: int
    layers: int
    vocab: int
    q: GgmlType = Q4
    n_ctx: int = 262144
    tied: bool = False
    tensors: list[Tensor] = field(default_factory=list)
    keys: dict[str, Value] = field(default_factory=dict)

    def set(self, **pairs: Value) -> None:
        for key, value in pairs.items():
            self.keys[key.replace("__", ".")] = value

    def w(self, name: str, *shape: int, q: GgmlType | None = None) -> None:
        kind = q if q is not None else self.q
        if len(shape) == 1:
            kind = F
        elif kind not in (F, MX) and shape[0] % 256:
            kind = Q8
        self.tensors.append(Tensor(name, shape, kind))

    def blk(self, i: int, name: str, *shape: int, q: GgmlType | None = None) -> None:
        self.w(f"blk.{i}.{name}", *shape, q=q)

    def attention(self, i: int, head: int, kv: int, hd: int, *, gate: int = 1, norms: bool = False) -> None:
        self.blk(i, "attn_q.weight", self.d, head * hd * gate)
        self.blk(i, "attn_k.weight", self.d, kv * hd)
        self.blk(i, "attn_v.weight", self.d, kv * hd, q=Q6)
        self.blk(i, "attn_output.weight", head * hd, self.d)
        if norms:
            self.blk(i, "attn_q_norm.weight", hd)
            self.blk(i, "attn_k_norm.weight", hd)

    def dense(self, i: int, ff: int) -> None:
        self.blk(i, "ffn_gate.weight", self.d, ff)
        self.blk(i, "ffn_up.weight", self.d, ff)
        self.blk(i, "ffn_down.weight", ff, self.d, q=Q6 if self.q is Q4 else None)

    def experts(self, i: int, n: int, ffe: int, *, shared: int = 0, gate: bool = True, gated: bool = True) -> None:
        self.blk(i, "ffn_gate_inp.weight", self.d, n, q=F)
        if gated:
            self.blk(i, "ffn_gate_exps.weight", self.d, ffe, n)
        self.blk(i, "ffn_up_exps.weight", self.d, ffe, n)
        self.blk(i, "ffn_down_exps.weight", ffe, self.d, n)
        if shared:
            if gate:
                self.blk(i, "ffn_gate_inp_shexp.weight", self.d)
            if gated:
                self.blk(i, "ffn_gate_shexp.weight", self.d, shared)
            self.blk(i, "ffn_up_shexp.weight", self.d, shared)
            self.blk(i, "ffn_down_shexp.weight", shared, self.d)

    def norms(self, i: int, *names: str) -> None:
        for name in names:
            self.blk(i, f"{name}.weight", self.d)

    def done(self) -> Shape:
        a = self.arch
        meta: dict[str, Value] = {
            "general.architecture": a,
            "general.name": self.name,
            "general.quantization_version": U32(2),
            f"{a}.block_count": U32(self.layers),
            f"{a}.context_length": U32(self.n_ctx),
            f"{a}.embedding_length": U32(self.d),
            f"{a}.vocab_size": U32(self.vocab),
            f"{a}.attention.layer_norm_rms_epsilon": F32(1e-6),
            "tokenizer.ggml.model": "no_vocab",
        }
        for key, value in self.keys.items():
            meta[f"{a}.{key}"] = U32(value) if type(value) is int else value
        self.w("token_embd.weight", self.d, self.vocab)
        self.w("output_norm.weight", self.d)
        if not self.tied:
            self.w("output.weight", self.d, self.vocab, q=Q6)
        return Shape(self.name, meta, tuple(self.tensors))


def _heads(b: _Build, head: int, kv: Value, hd: int) -> None:
    b.set(attention__head_count=head, attention__head_count_kv=kv, attention__key_length=hd)
    b.set(attention__value_length=hd, rope__dimension_count=hd)


def _llama_like(
    name: str, arch: str, d: int, n: int, head: int, kv: int, ff: int, vocab: int, q: GgmlType = Q4, hd: int = 128
) -> Shape:
    b = _Build(name, arch, d, n, vocab, n_ctx=131072, q=q)
    _heads(b, head, kv, hd)
    b.set(feed_forward_length=ff, rope__freq_base=F32(1e6))
    for i in range(n):
        b.norms(i, "attn_norm", "post_attention_norm" if arch == "seed_oss" else "ffn_norm")
        b.attention(i, head, kv, hd, norms=arch == "qwen3")
        if arch in ("qwen2", "seed_oss"):
            for part, size in (("q", head * hd), ("k", kv * hd), ("v", kv * hd)):
                b.blk(i, f"attn_{part}.bias", size)
        b.dense(i, ff)
    return b.done()


def llama_8b(*, q: GgmlType = Q4) -> Shape:
    return _llama_like("llama-8b", "llama", 4096, 32, 32, 8, 14336, 128256, q)


def qwen2_14b() -> Shape:
    return _llama_like("qwen2-14b", "qwen2", 5120, 48, 40, 8, 13824, 152064)


def qwen2_05b() -> Shape:
    """The small sibling of the Qwen2.5 models, whose vocabulary has 128 tokens fewer of padding."""
    return _llama_like("qwen2-0.5b", "qwen2", 896, 24, 14, 2, 4864, 151936, Q8, 64)


def qwen3_8b() -> Shape:
    return _llama_like("qwen3-8b", "qwen3", 4096, 36, 32, 8, 12288, 151936)


def devstral_24b() -> Shape:
    return _llama_like("devstral-24b", "mistral3", 5120, 40, 32, 8, 32768, 131072)


def seed_oss_36b() -> Shape:
    return _llama_like("seed-oss-36b", "seed_oss", 5120, 64, 80, 8, 27648, 155136)


def granite_8b() -> Shape:
    b = _Build("granite-8b", "granite", 4096, 40, 100352, n_ctx=131072)
    _heads(b, 32, 8, 128)
    b.set(feed_forward_length=12800, rope__freq_base=F32(1e7), logit_scale=F32(16.0), residual_scale=F32(0.22))
    b.set(embedding_scale=F32(12.0), attention__scale=F32(0.0078125))
    for i in range(40):
        b.norms(i, "attn_norm", "ffn_norm")
        b.attention(i, 32, 8, 128)
        b.dense(i, 12800)
    return b.done()


def muse_glimmer_30b() -> Shape:
    b = _Build("muse-glimmer-30b", "muse-glimmer", 6656, 52, 202048, n_ctx=131072)
    _heads(b, 32, 2, 128)
    b.set(feed_forward_length=19968, attention__sliding_window=2048, attention__sliding_window_pattern=4)
    b.set(logit_scale=F32(0.196), final_logit_softcapping=F32(20.0), rope__freq_base=F32(5e5))
    for i in range(52):
        b.norms(i, "attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")
        b.attention(i, 32, 2, 128, norms=True)
        b.blk(i, "attn_gate.weight", 6656, 32 * 128)
        b.dense(i, 19968)
    return b.done()


def laguna_33b_a3b() -> Shape:
    heads = [64 if i % 4 else 48 for i in range(40)]
    b = _Build("laguna-33b-a3b", "laguna", 2048, 40, 100352)
    _heads(b, I32(heads), 8, 128)
    b.set(feed_forward_length=8192, attention__sliding_window=512, leading_dense_block_count=1)
    b.set(expert_count=256, expert_used_count=8, expert_feed_forward_length=512, expert_shared_feed_forward_length=512)
    b.set(expert_weights_norm=True, expert_weights_scale=F32(2.5), expert_gating_func=2)
    b.set(rope__dimension_count_swa=128, rope__freq_base=F32(5e5), rope__freq_base_swa=F32(1e4))
    for i, head in enumerate(heads):
        b.norms(i, "attn_norm", "ffn_norm")
        b.attention(i, head, 8, 128, norms=True)
        b.blk(i, "attn_gate.weight", 2048, head)
        if i == 0:
            b.dense(i, 8192)
        else:
            b.experts(i, 256, 512, shared=512, gate=False)
            b.blk(i, "exp_probs_b.bias", 256)
    return b.done()


def cohere2moe_30b_a3b() -> Shape:
    b = _Build("cohere2moe-30b-a3b", "cohere2moe", 2048, 49, 262144, n_ctx=500000, tied=True)
    _heads(b, 32, 4, 128)
    b.set(feed_forward_length=3072, attention__sliding_window=4096, leading_dense_block_count=1)
    b.set(expert_count=128, expert_used_count=8, expert_feed_forward_length=768, expert_gating_func=2)
    b.set(expert_weights_norm=True, logit_scale=F32(1.0), rope__freq_base=F32(5e4))
    for i in range(49):
        b.norms(i, "attn_norm")
        b.attention(i, 32, 4, 128)
        if i == 0:
            b.dense(i, 3072)
        else:
            b.experts(i, 128, 768)
    return b.done()


def qwen2moe_57b() -> Shape:
    b = _Build("qwen2moe-57b-a14b", "qwen2moe", 3584, 28, 151936, n_ctx=131072)
    _heads(b, 28, 4, 128)
    b.set(feed_forward_length=18944, expert_count=64, expert_used_count=8)
    b.set(expert_feed_forward_length=2560, expert_shared_feed_forward_length=20480)
    for i in range(28):
        b.norms(i, "attn_norm", "ffn_norm")
        b.attention(i, 28, 4, 128)
        for part, size in (("q", 3584), ("k", 512), ("v", 512)):
            b.blk(i, f"attn_{part}.bias", size)
        b.experts(i, 64, 2560, shared=20480)
    return b.done()


def qwen3moe_30b() -> Shape:
    b = _Build("qwen3moe-30b-a3b", "qwen3moe", 2048, 48, 151936)
    _heads(b, 32, 4, 128)
    b.set(feed_forward_length=6144, expert_count=128, expert_used_count=8, expert_feed_forward_length=768)
    for i in range(48):
        b.norms(i, "attn_norm", "ffn_norm")
        b.attention(i, 32, 4, 128, norms=True)
        b.experts(i, 128, 768)
    return b.done()


def _ssm(b: _Build, inner: int, state: int, group: int, rank: int) -> None:
    b.set(ssm__conv_kernel=4, ssm__inner_size=inner, ssm__state_size=state)
    b.set(ssm__group_count=group, ssm__time_step_rank=rank)


def _delta_net(b: _Build, i: int, inner: int, state: int, group: int, rank: int, *, fused: bool) -> None:
    key = state * group
    b.blk(i, "attn_qkv.weight", b.d, 2 * key + inner)
    b.blk(i, "attn_gate.weight", b.d, inner)
    b.blk(i, "ssm_conv1d.weight", 4, 2 * key + inner, q=F)
    b.blk(i, "ssm_dt.bias", rank)
    b.blk(i, "ssm_a", rank)
    if fused:
        b.blk(i, "ssm_ba.weight", b.d, 2 * rank)
    else:
        b.blk(i, "ssm_beta.weight", b.d, rank)
        b.blk(i, "ssm_alpha.weight", b.d, rank)
    b.blk(i, "ssm_norm.weight", state)
    b.blk(i, "ssm_out.weight", inner, b.d)


def qwen3next_80b() -> Shape:
    b = _Build("qwen3next-80b-a3b", "qwen3next", 2048, 48, 151936)
    _heads(b, 16, 2, 256)
    b.set(feed_forward_length=5120, expert_count=512, expert_used_count=10)
    b.set(expert_feed_forward_length=512, expert_shared_feed_forward_length=512)
    _ssm(b, 4096, 128, 16, 32)
    for i in range(48):
        b.norms(i, "attn_norm", "post_attention_norm")
        if (i + 1) % 4:
            _delta_net(b, i, 4096, 128, 16, 32, fused=True)
        else:
            b.attention(i, 16, 2, 256, gate=2, norms=True)
        b.experts(i, 512, 512, shared=512)
    return b.done()


def _nextn(b: _Build, i: int) -> None:
    b.blk(i, "nextn.eh_proj.weight", 2 * b.d, b.d)
    b.norms(i, "nextn.enorm", "nextn.hnorm", "nextn.shared_head_norm")


def qwen35_27b(*, mtp: bool = False, q: GgmlType = Q4) -> Shape:
    b = _Build("qwen35-27b" + ("-mtp" if mtp else ""), "qwen35", 5120, 64 + mtp, 248320, q=q)
    _heads(b, 24, 4, 256)
    b.set(feed_forward_length=17408, rope__dimension_sections=I32([11, 11, 10, 0]))
    _ssm(b, 6144, 128, 16, 48)
    if mtp:
        b.set(nextn_predict_layers=1)
    for i in range(64 + mtp):
        b.norms(i, "attn_norm", "post_attention_norm")
        if (i + 1) % 4 and i < 64:
            _delta_net(b, i, 6144, 128, 16, 48, fused=False)
        else:
            b.attention(i, 24, 4, 256, gate=2, norms=True)
        b.dense(i, 17408)
        if i >= 64:
            _nextn(b, i)
    return b.done()


def qwen35moe_35b(*, q: GgmlType = Q4, mtp: bool = False) -> Shape:
    b = _Build("qwen35moe-35b-a3b" + ("-mtp" if mtp else ""), "qwen35moe", 2048, 40 + mtp, 248320, q=q)
    _heads(b, 16, 2, 256)
    b.set(expert_count=256, expert_used_count=8, rope__dimension_sections=I32([11, 11, 10, 0]))
    b.set(expert_feed_forward_length=512, expert_shared_feed_forward_length=512)
    _ssm(b, 4096, 128, 16, 32)
    if mtp:
        b.set(nextn_predict_layers=1)
    for i in range(40 + mtp):
        b.norms(i, "attn_norm", "post_attention_norm")
        if (i + 1) % 4 and i < 40:
            _delta_net(b, i, 4096, 128, 16, 32, fused=False)
        else:
            b.attention(i, 16, 2, 256, gate=2, norms=True)
        b.experts(i, 256, 512, shared=512)
        if i >= 40:
            _nextn(b, i)
    return b.done()


def _gpt_oss(name: str, layers: int, experts: int) -> Shape:
    b = _Build(name, "gpt-oss", 2880, layers, 201088, q=Q8, n_ctx=131072)
    _heads(b, 64, 8, 64)
    b.set(feed_forward_length=2880, expert_count=experts, expert_used_count=4, expert_feed_forward_length=2880)
    b.set(attention__sliding_window=128, rope__freq_base=F32(150000.0))
    for i in range(layers):
        b.norms(i, "attn_norm", "post_attention_norm")
        for part, size in (("q", 4096), ("k", 512), ("v", 512)):
            b.blk(i, f"attn_{part}.weight", 2880, size)
            b.blk(i, f"attn_{part}.bias", size)
        b.blk(i, "attn_output.weight", 4096, 2880)
        b.blk(i, "attn_output.bias", 2880)
        b.blk(i, "attn_sinks.weight", 64)
        b.blk(i, "ffn_gate_inp.weight", 2880, experts, q=F)
        b.blk(i, "ffn_gate_inp.bias", experts)
        for part in ("gate", "up", "down"):
            b.blk(i, f"ffn_{part}_exps.weight", 2880, 2880, experts, q=MX)
            b.blk(i, f"ffn_{part}_exps.bias", 2880, experts, q=F)
    return b.done()


def gpt_oss_20b() -> Shape:
    return _gpt_oss("gpt-oss-20b", 24, 32)


def gpt_oss_120b() -> Shape:
    return _gpt_oss("gpt-oss-120b", 36, 128)


def gemma3_12b() -> Shape:
    b = _Build("gemma3-12b", "gemma3", 3840, 48, 262208, n_ctx=131072, tied=True, q=Q4)
    _heads(b, 16, 8, 256)
    b.set(feed_forward_length=15360, attention__sliding_window=1024)
    for i in range(48):
        b.norms(i, "attn_norm", "ffn_norm", "post_attention_norm", "post_ffw_norm")
        b.attention(i, 16, 8, 256, norms=True)
        b.dense(i, 15360)
    return b.done()


def gemma4_31b() -> Shape:
    n, d = 60, 5376
    full = [(i + 1) % 6 == 0 for i in range(n)]
    b = _Build("gemma4-31b", "gemma4", d, n, 262144, tied=True)
    _heads(b, 32, I32([4 if f else 16 for f in full]), 512)
    b.set(attention__key_length_swa=256, attention__value_length_swa=256, rope__dimension_count_swa=256)
    b.set(feed_forward_length=21504, attention__sliding_window=1024, attention__shared_kv_layers=0)
    b.set(attention__sliding_window_pattern=[not f for f in full], embedding_length_per_layer_input=0)
    b.set(final_logit_softcapping=F32(30.0))
    b.w("rope_freqs.weight", 256)
    for i in range(n):
        hd, kv = (512, 4) if full[i] else (256, 16)
        b.norms(i, "attn_norm", "ffn_norm", "post_attention_norm", "post_ffw_norm")
        b.attention(i, 32, kv, hd, norms=True)
        b.dense(i, 21504)
    return b.done()


def gemma4_26b_a4b() -> Shape:
    n, d = 30, 2816
    full = [(i + 1) % 6 == 0 for i in range(n)]
    b = _Build("gemma4-26b-a4b", "gemma4", d, n, 262144, tied=True)
    _heads(b, 16, I32([2 if f else 8 for f in full]), 512)
    b.set(attention__key_length_swa=256, attention__value_length_swa=256, rope__dimension_count_swa=256)
    b.set(feed_forward_length=2112, attention__sliding_window=1024, attention__shared_kv_layers=0)
    b.set(attention__sliding_window_pattern=[not f for f in full], embedding_length_per_layer_input=0)
    b.set(expert_count=128, expert_used_count=8, expert_feed_forward_length=704)
    b.set(final_logit_softcapping=F32(30.0))
    b.w("rope_freqs.weight", 256)
    for i in range(n):
        hd, kv = (512, 2) if full[i] else (256, 8)
        b.norms(i, "attn_norm", "ffn_norm", "post_attention_norm", "post_ffw_norm")
        b.attention(i, 16, kv, hd, norms=True)
        b.dense(i, 2112)
        b.norms(i, "pre_ffw_norm_2", "post_ffw_norm_1", "post_ffw_norm_2")
        b.blk(i, "ffn_gate_inp.weight", d, 128, q=F)
        b.blk(i, "ffn_gate_inp.scale", d)
        b.blk(i, "ffn_gate_up_exps.weight", d, 1408, 128)
        b.blk(i, "ffn_down_exps.weight", 704, d, 128)
    return b.done()


def glm4moe_106b() -> Shape:
    n, d = 47, 4096
    b = _Build("glm4moe-106b-a12b", "glm4moe", d, n, 151552, n_ctx=131072)
    _heads(b, 96, 8, 128)
    b.set(feed_forward_length=10944, expert_count=128, expert_used_count=8, expert_feed_forward_length=1408)
    b.set(expert_shared_count=1, leading_dense_block_count=1, nextn_predict_layers=1)
    for i in range(n):
        b.norms(i, "attn_norm", "post_attention_norm")
        b.attention(i, 96, 8, 128)
        for part, size in (("q", 96 * 128), ("k", 1024), ("v", 1024)):
            b.blk(i, f"attn_{part}.bias", size)
        if i == 0:
            b.dense(i, 10944)
        else:
            b.blk(i, "exp_probs_b.bias", 128)
            b.experts(i, 128, 1408, shared=1408, gate=False)
        if i == n - 1:
            _nextn(b, i)
    return b.done()


def deepseek2_30b() -> Shape:
    """The shape of GLM-4.7-Flash: multi-head latent attention with absorbed projections."""
    n, d, heads = 47, 2048, 20
    b = _Build("deepseek2-30b-a3b", "deepseek2", d, n, 154880, n_ctx=202752)
    b.set(attention__head_count=heads, attention__head_count_kv=1, rope__dimension_count=64)
    b.set(attention__key_length=576, attention__value_length=512, attention__kv_lora_rank=512)
    b.set(attention__key_length_mla=256, attention__value_length_mla=256, attention__q_lora_rank=768)
    b.set(feed_forward_length=10240, expert_count=64, expert_used_count=4, expert_feed_forward_length=1536)
    b.set(expert_shared_count=1, leading_dense_block_count=1)
    for i in range(n):
        b.norms(i, "attn_norm", "ffn_norm")
        b.blk(i, "attn_q_a_norm.weight", 768)
        b.blk(i, "attn_kv_a_norm.weight", 512)
        b.blk(i, "attn_q_a.weight", d, 768)
        b.blk(i, "attn_q_b.weight", 768, heads * 256)
        b.blk(i, "attn_kv_a_mqa.weight", d, 576)
        b.blk(i, "attn_k_b.weight", 192, 512, heads)
        b.blk(i, "attn_v_b.weight", 512, 256, heads)
        b.blk(i, "attn_output.weight", heads * 256, d)
        if i == 0:
            b.dense(i, 10240)
        else:
            b.blk(i, "exp_probs_b.bias", 64)
            b.experts(i, 64, 1536, shared=1536, gate=False)
    return b.done()


def _mamba2(b: _Build, i: int, inner: int, state: int, group: int, rank: int) -> None:
    b.blk(i, "ssm_in.weight", b.d, 2 * inner + 2 * group * state + rank)
    b.blk(i, "ssm_conv1d.weight", 4, inner + 2 * group * state, q=F)
    b.blk(i, "ssm_conv1d.bias", inner + 2 * group * state)
    b.blk(i, "ssm_dt.bias", rank)
    b.blk(i, "ssm_a", 1, rank, q=F)
    b.blk(i, "ssm_d", 1, rank, q=F)
    b.blk(i, "ssm_norm.weight", inner // group, group, q=F)
    b.blk(i, "ssm_out.weight", inner, b.d)


def granite_hybrid_32b() -> Shape:
    n, d = 40, 4096
    attention = {5, 15, 25, 35}
    b = _Build("granite-hybrid-32b-a9b", "granitehybrid", d, n, 100352, n_ctx=131072, tied=True)
    _heads(b, 32, I32([8 if i in attention else 0 for i in range(n)]), 128)
    b.set(feed_forward_length=768, expert_count=72, expert_used_count=10)
    b.set(expert_shared_feed_forward_length=1536)
    _ssm(b, 8192, 128, 1, 128)
    for i in range(n):
        b.norms(i, "attn_norm", "ffn_norm")
        if i in attention:
            b.attention(i, 32, 8, 128)
        else:
            _mamba2(b, i, 8192, 128, 1, 128)
        b.experts(i, 72, 768, shared=1536, gate=False)
    return b.done()


def nemotron_h_moe_30b() -> Shape:
    pattern = "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME"
    n, d = len(pattern), 2688
    b = _Build("nemotron-h-moe-30b-a3b", "nemotron_h_moe", d, n, 131072, n_ctx=1048576)
    _heads(b, 32, I32([2 if c == "*" else 0 for c in pattern]), 128)
    b.set(feed_forward_length=I32([1856 if c == "E" else 0 for c in pattern]))
    b.set(expert_count=128, expert_used_count=6, expert_feed_forward_length=1856, expert_shared_count=1)
    b.set(expert_shared_feed_forward_length=3712, attention__layer_norm_epsilon=F32(1e-5))
    _ssm(b, 4096, 128, 8, 64)
    for i, c in enumerate(pattern):
        b.norms(i, "attn_norm")
        if c == "M":
            _mamba2(b, i, 4096, 128, 8, 64)
        elif c == "*":
            b.attention(i, 32, 2, 128)
        else:
            b.blk(i, "exp_probs_b.bias", 128)
            b.experts(i, 128, 1856, shared=3712, gate=False, gated=False)
    return b.done()


def nemotron_h_9b() -> Shape:
    pattern = "M-M-M-MM-M-M-M*-M-M-M*-M-M-M-M*-M-M-M-M*-M-MM-M-M-M-M-M-"
    n, d = len(pattern), 4480
    b = _Build("nemotron-h-9b", "nemotron_h", d, n, 131072, n_ctx=131072)
    _heads(b, 40, I32([8 if c == "*" else 0 for c in pattern]), 128)
    b.set(feed_forward_length=I32([15680 if c == "-" else 0 for c in pattern]))
    b.set(attention__layer_norm_epsilon=F32(1e-5))
    _ssm(b, 10240, 128, 8, 128)
    for i, c in enumerate(pattern):
        b.norms(i, "attn_norm")
        if c == "M":
            _mamba2(b, i, 10240, 128, 8, 128)
        elif c == "*":
            b.attention(i, 40, 8, 128)
        else:
            b.blk(i, "ffn_up.weight", d, 15680)
            b.blk(i, "ffn_down.weight", 15680, d)
    return b.done()


# The matrix of docs/planner.md, and the models of the random draws.
ALL: tuple[Callable[[], Shape], ...] = (
    llama_8b, qwen2_14b, qwen3_8b, devstral_24b, qwen2moe_57b, qwen3moe_30b, qwen3next_80b, qwen35_27b,
    qwen35moe_35b, gpt_oss_20b, gemma3_12b, gemma4_31b, gemma4_26b_a4b, glm4moe_106b, deepseek2_30b,
    granite_hybrid_32b, nemotron_h_9b, nemotron_h_moe_30b,
)  # fmt: skip
# Shapes of architectures that got a record since: one cell each in tests/e2e/test_planner_oracle.py. The random draws
# and the matrix of docs/planner.md stay as they are.
ADDED: tuple[Callable[[], Shape], ...] = (seed_oss_36b, granite_8b, laguna_33b_a3b)
# Of records that are not checked: caches agree, compute buffers are an upper bound.
BOUNDED: tuple[Callable[[], Shape], ...] = (muse_glimmer_30b, cohere2moe_30b_a3b)


def shape_of(name: str) -> Shape:
    """Raises KeyError for a name that none has."""
    return {shape.name: shape for shape in (make() for make in (*ALL, *ADDED, *BOUNDED))}[name]


def renamed(shape: Shape, name: str) -> Shape:
    return replace(shape, name=name)
