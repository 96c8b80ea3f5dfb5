# %% [markdown]
# # A model in Python
# A notebook in percent format: VS Code, Jupytext and PyCharm show it as one, `python notebook.py` runs it as it is.
# RUNNEL_MODEL names the model, by default models/gemma-3-270m.rnl, which `bash examples/quickstart.sh` makes.

# %%
import os
import time

import numpy as np

import runnel

model = runnel.Model(os.environ.get("RUNNEL_MODEL", "models/gemma-3-270m.rnl"))
print(model.info.name, model.info.architecture, f"{model.info.file_bytes / 1e6:.0f} MB")

# %% [markdown]
# ## What it will take
# Every byte is known before anything is allocated.

# %%
for context in (512, 2048, 8192):
    memory = model.plan(context=context)
    print(f"context {context:5}: {memory.state / 1e6:8.2f} MB of state, {memory.arena / 1e6:.2f} MB to compute in")

# %% [markdown]
# ## Text, piece by piece

# %%
session = runnel.Session(model, context=1024)
begin = time.perf_counter()
answer = session.generate("Rivers are", max_tokens=48, temperature=0.8, seed=1)
for piece in answer:
    print(piece, end="", flush=True)
print(f"\n{len(answer.tokens) / (time.perf_counter() - begin):.1f} tokens/s with the prompt")

# %% [markdown]
# ## How likely is a text?
# All logits of a call as one NumPy array; the perplexity of a text in four lines.

# %%
text = "Rivers flow from the mountains to the sea, and the sea gives back the rain."
ids = model.tokenize(text)
session.reset()
logits = session.run({"ids": ids}, all_rows=True)["logits"].astype(np.float64)
peak = logits.max(axis=1, keepdims=True)
log_probabilities = logits - peak - np.log(np.exp(logits - peak).sum(axis=1, keepdims=True))
nll = -log_probabilities[np.arange(len(ids) - 1), ids[1:]]
print(f"perplexity {np.exp(nll.mean()):.1f} over {len(nll)} tokens")

# %% [markdown]
# ## One prompt, many ends
# The stream is read once; each end begins from the same state, as a value or as a fork.

# %%
session.reset()
session.run({"ids": model.tokenize("The best thing about rivers is"), "rows": []})
state = session.snapshot()
print(f"{state.nbytes / 1e3:.0f} kB hold {state.position} tokens")
for word in (" the", " that", " how"):
    session.restore(state)
    end = session.generate(model.tokenize(word, bos_eos=False), max_tokens=12)
    print(repr(word + "".join(end)))

# %% [markdown]
# ## Where the time goes

# %%
session.reset()
with session.trace() as events:
    session.run({"ids": ids})
by_kernel: dict[str, int] = {}
for e in events:
    by_kernel[e.kernel] = by_kernel.get(e.kernel, 0) + e.end_ns - e.begin_ns
for kernel, ns in sorted(by_kernel.items(), key=lambda row: -row[1])[:5]:
    print(f"{ns / 1e6:8.3f} ms  {kernel}")
session.close()
