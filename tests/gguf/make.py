"""Writes tiny.gguf and tiny.values.safetensors: see README.md. Needs the packages gguf, numpy and safetensors."""

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFWriter
from gguf.quants import dequantize, quantize
from safetensors.numpy import save_file

rng = np.random.default_rng(7)


def blocks(rows, layout):
    """Random blocks: a number is so many random bytes, "d" an f16 of about that size."""
    def part(item):
        if isinstance(item, int):
            return rng.integers(0, 256, item, dtype=np.uint8)
        sign = rng.choice([-1.0, 1.0])
        return np.array([sign * rng.uniform(0.5, 1.0) * item], np.float16).view(np.uint8)
    return np.stack([np.concatenate([part(item) for item in layout]) for _ in range(rows)])


def made(kind, shape):
    if kind == Type.Q4_K:
        return blocks(shape[0], [2e-4, 2e-4, 12, 128])
    if kind == Type.Q6_K:
        return blocks(shape[0], [128, 64, 16, 2e-5])
    return quantize(rng.normal(0, 0.06, shape).astype(np.float32), kind)


WIDTH, HEAD, MLP, ROWS = 256, 4, 8, 8
TENSORS = {
    "token_embd.weight": (Type.Q6_K, (ROWS, WIDTH)),
    "blk.0.attn_norm.weight": (Type.F32, (WIDTH,)),
    "blk.0.attn_q.weight": (Type.Q4_K, (HEAD, WIDTH)),
    "blk.0.attn_k.weight": (Type.Q8_0, (HEAD, WIDTH)),
    "blk.0.attn_v.weight": (Type.Q4_0, (HEAD, WIDTH)),
    "blk.0.attn_output.weight": (Type.F16, (WIDTH, HEAD)),
    "blk.0.ffn_norm.weight": (Type.F32, (WIDTH,)),
    "blk.0.ffn_gate.weight": (Type.BF16, (MLP, WIDTH)),
    "blk.0.ffn_up.weight": (Type.Q4_K, (MLP, WIDTH)),
    "blk.0.ffn_down.weight": (Type.F32, (WIDTH, MLP)),
    "output_norm.weight": (Type.F32, (WIDTH,)),
    "output.weight": (Type.Q6_K, (ROWS, WIDTH)),
}

writer = GGUFWriter("tiny.gguf", "llada")
writer.add_context_length(64)
writer.add_embedding_length(WIDTH)
writer.add_block_count(1)
writer.add_feed_forward_length(MLP)
writer.add_head_count(1)
writer.add_key_length(HEAD)
writer.add_value_length(HEAD)
writer.add_vocab_size(ROWS)
writer.add_layer_norm_rms_eps(1e-5)
writer.add_rope_freq_base(10000.0)
writer.add_causal_attention(False)
writer.add_diffusion_shift_logits(False)
writer.add_mask_token_id(ROWS - 1)
values = {}
for name, (kind, shape) in TENSORS.items():
    data = made(kind, shape)
    values[name] = np.ascontiguousarray(dequantize(data, kind).reshape(shape), np.float32)
    writer.add_tensor(name, data, raw_dtype=kind)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
save_file(values, "tiny.values.safetensors")
