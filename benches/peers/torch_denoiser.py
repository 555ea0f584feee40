"""A call of a Qwen3-shaped denoiser in PyTorch on one canvas: logits of all positions, and the most probable tokens. One
JSON object on stdout. Needs torch.
"""
import argparse
import json
import statistics
import time

import torch
import torch.nn.functional as F

parser = argparse.ArgumentParser()
sizes = dict(hidden=1024, blocks=28, heads=16, kv_heads=8, head_dim=128, mlp=3072, vocab=151936, length=32, calls=16)
for name, default in sizes.items():
    parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default)
parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
parser.add_argument("--threads", type=int, default=0)
a = parser.parse_args()
if a.threads:
    torch.set_num_threads(a.threads)
torch.set_default_dtype(torch.float32 if a.precision == "f32" else torch.bfloat16)
D, H, K, W = a.hidden, a.heads, a.kv_heads, a.head_dim


def matrix(rows, columns):
    return torch.randn(rows, columns) * columns**-0.5


table = matrix(a.vocab, D)
blocks = [
    (matrix(H * W, D), matrix(K * W, D), matrix(K * W, D), matrix(D, H * W), matrix(a.mlp, D), matrix(a.mlp, D),
     matrix(D, a.mlp))
    for _ in range(a.blocks)
]
ones, head_ones = torch.ones(D), torch.ones(W)
angles = torch.outer(torch.arange(a.length).float(), 1e6 ** (-torch.arange(0, W, 2) / W))
cos, sin = angles.cos().to(table.dtype), angles.sin().to(table.dtype)


def turn(x):
    u, v = x.chunk(2, -1)
    return torch.cat([u * cos - v * sin, v * cos + u * sin], -1)


def heads(x, n):
    return x.view(a.length, n, W).transpose(0, 1)


@torch.inference_mode()
def call(ids):
    h = F.embedding(ids, table)
    for q, k, v, o, gate, up, down in blocks:
        x = F.rms_norm(h, [D], ones)
        qs = turn(F.rms_norm(heads(F.linear(x, q), H), [W], head_ones))
        ks = turn(F.rms_norm(heads(F.linear(x, k), K), [W], head_ones))
        ks, vs = (t.repeat_interleave(H // K, 0) for t in (ks, heads(F.linear(x, v), K)))
        y = F.scaled_dot_product_attention(qs, ks, vs)
        h = h + F.linear(y.transpose(0, 1).reshape(a.length, H * W), o)
        x = F.rms_norm(h, [D], ones)
        h = h + F.linear(F.silu(F.linear(x, gate)) * F.linear(x, up), down)
    probability = F.linear(F.rms_norm(h, [D], ones), table).float().softmax(-1)
    return probability.max(-1)


ids = torch.randint(0, a.vocab, (a.length,))
call(ids)
times = []
for _ in range(a.calls):
    start = time.perf_counter()
    call(ids)
    times.append(1e3 * (time.perf_counter() - start))
name = f"torch {torch.__version__} cpu {a.precision}"
print(json.dumps({"name": name, "call_ms": statistics.median(times), "min_ms": min(times)}))
