"""A model in JSON, operator by operator, with its weights, and what it must compute.

A maker writes a network twice: with a Graph (what Runnel runs) and as a formula on float64 tensors. save() puts both in a folder:
    graph.json, weights.safetensors   the model (runtime/format/FORMAT.md, "A model in JSON")
    io.safetensors                    inputs and outputs by name; an input or output of a later call of another program is called program.call.name
"""

import json
import os

import torch
from safetensors.torch import save_file

HERE = os.path.dirname(os.path.abspath(__file__))
STREAM = "T"  # axis 0 of a model that reads a stream

TABLES = {
    "embedding": "EmbeddingAttrs",
    "rms_norm": "NormAttrs",
    "layer_norm": "NormAttrs",
    "unary": "UnaryAttrs",
    "binary": "BinaryAttrs",
    "glu": "GluAttrs",
    "rope": "RopeAttrs",
    "attention": "AttentionAttrs",
    "slice": "SliceAttrs",
    "concat": "ConcatAttrs",
    "transpose": "TransposeAttrs",
    "softmax": "SoftmaxAttrs",
    "causal_conv": "ConvAttrs",
    "scan": "ScanAttrs",
    "selective_scan": "SelectiveScanAttrs",
    "cell_recurrence": "CellAttrs",
    "matrix_recurrence": "MatrixRecurrenceAttrs",
    "inner_model": "InnerModelAttrs",
    "route": "RouteAttrs",
    "reduce": "ReduceAttrs",
    "batch_matmul": "BatchMatmulAttrs",
    "solve": "SolveAttrs",
    "math": "MathAttrs",
}


def draw(*shape, scale=1.0):
    """float64 numbers that float32 holds exactly, so that both sides start from the same ones."""
    return (torch.randn(*shape, dtype=torch.float64) * scale).float().double()


class Value:
    def __init__(self, name, dims):
        self.name, self.dims = name, list(dims)


class Graph:
    def __init__(self, name, context=64):
        self.name, self.tensors, self.states, self.programs, self.io = name, {}, [], [], {}
        self.known, self.is_stream, self.count, self.context = {}, False, 0, context
        self.program("main")

    # Programs, inputs, outputs.
    def program(self, name):
        self.now = {"name": name, "inputs": [], "values": [], "ops": [], "outputs": []}
        self.programs.append(self.now)

    def input(self, name, dims, dtype="f32"):
        self.is_stream = self.is_stream or STREAM in dims
        self.now["inputs"].append({"name": name, "dtype": dtype, "shape": [str(d) for d in dims]})
        return Value(name, dims)

    def positions(self):
        self.now["inputs"].append({"name": "positions", "dtype": "i32", "shape": [STREAM], "role": "positions"})
        return Value("positions", [STREAM])

    def output(self, value, name="y"):
        self.now["values"] = [v for v in self.now["values"] if v["name"] != value.name]
        for op in self.now["ops"]:
            op["outputs"] = [name if o == value.name else o for o in op["outputs"]]
            op["inputs"] = [name if o == value.name else o for o in op["inputs"]]
        self.now["values"].append({"name": name, "shape": [str(d) for d in value.dims]})
        self.now["outputs"].append(name)
        value.name = name

    # Operands.
    def constant(self, tensor, use="plain"):
        key = (id(tensor), use)
        if key not in self.known:
            name = f"w{len(self.tensors)}"
            self.known[key] = (name, tensor)
            self.tensors[name] = (tensor if tensor.dtype == torch.int32 else tensor.float()).contiguous().clone()
        return self.known[key][0]

    def state(self, name, shape, initial=None):
        s = {"name": name, "kind": "recurrent", "dtype": "f32", "shape": [str(d) for d in shape]}
        if initial is not None:
            s["initial"] = name + ".initial"
            self.tensors[name + ".initial"] = initial.float().contiguous().clone()
        self.states.append(s)
        return name

    def cache(self, name, heads, key, value, window=0, stride=1):
        """Keys and values of attention: a ring with a window, else all of the context (one of `stride` tokens)."""
        whole = f"ceildiv(ceildiv(context,{stride}),64)*64"
        slots = f"min(ceildiv({window}+max(chunk,rollback),64)*64,{whole})" if window else whole
        kind = {"kind": "ring", "window": window} if window else {"kind": "append"}
        self.states.append(
            {
                "name": name + ".k",
                "dtype": "f32",
                "block_axis": 2,
                "slots": slots,
                "shape": [str(heads), f"floordiv({slots},16)", str(key), "16"],
            }
            | kind
        )
        self.states.append(
            {
                "name": name + ".v",
                "dtype": "f32",
                "block_axis": 2,
                "slots": slots,
                "shape": [str(heads), slots, str(value)],
            }
            | kind
        )
        return name + ".k", name + ".v"

    # Operators.
    def op(self, operator, inputs, dims, more=(), /, **attrs):
        """One operator. dims: of its output; more: names of states, or dims of further outputs."""
        outputs, values = [], []
        for d in [dims, *more]:
            if isinstance(d, str):
                outputs.append(d)
                continue
            self.count += 1
            v = Value(f"v{self.count}", d)
            outputs.append(v.name)
            values.append(v)
            self.now["values"].append({"name": v.name, "shape": [str(x) for x in d]})
        names = []
        for i, x in enumerate(inputs):
            use = "matrix" if operator in ("matmul", "embedding") and i == 1 else "plain"
            names.append(
                ""
                if x is None
                else x
                if isinstance(x, str)
                else x.name
                if isinstance(x, Value)
                else self.constant(x, use)
            )
        while names and names[-1] == "":
            names.pop()
        op = {"name": operator, "inputs": names, "outputs": outputs}
        if operator in TABLES and attrs:
            op |= {"attrs_type": TABLES[operator], "attrs": attrs}
        self.now["ops"].append(op)
        return values[0] if len(values) == 1 else values

    def retype(self, value, dtype):
        for v in self.now["values"]:
            if v["name"] == value.name:
                v["dtype"] = dtype
        return value

    def linear(self, x, w, b=None, dims=None):
        return self.op("matmul", [x, w, b], x.dims[:-1] + list(dims or [w.shape[0]]))

    def unary(self, kind, x, alpha=1.0):
        return self.op("unary", [x], x.dims, kind=kind, alpha=alpha)

    def binary(self, kind, x, y, dims=None):
        return self.op("binary", [x, y], dims or x.dims, kind=kind)

    def add(self, x, y, dims=None):
        return self.binary("add", x, y, dims)

    def mul(self, x, y, dims=None):
        return self.binary("mul", x, y, dims)

    def scale(self, x, by):
        return self.unary("scale", x, float(by))

    def rms(self, x, weight=None, eps=1e-6):
        return self.op("rms_norm", [x, weight], x.dims, eps=eps)

    def layer_norm(self, x, weight=None, bias=None, eps=1e-5):
        return self.op("layer_norm", [x, weight, bias], x.dims, eps=eps)

    def softmax(self, x, scale=1.0):
        return self.op("softmax", [x], x.dims, scale=scale)

    def reshape(self, x, dims):
        return self.op("reshape", [x], dims)

    def slice(self, x, axis, begin, count):
        dims = list(x.dims)
        dims[axis] = count
        return self.op("slice", [x], dims, axis=axis, begin=begin)

    def concat(self, parts, axis):
        dims = list(parts[0].dims)
        dims[axis] = sum(p.dims[axis] for p in parts)
        return self.op("concat", parts, dims, axis=axis)

    def transpose(self, x, perm):
        return self.op("transpose", [x], [x.dims[i] for i in perm], perm=list(perm))

    def gather(self, x, rows):
        return self.op("gather_rows", [x, torch.tensor(rows, dtype=torch.int32)], [len(rows)] + x.dims[1:])

    def reduce(self, kind, x, axis):
        return self.op("reduce", [x], x.dims[:axis] + x.dims[axis + 1 :], kind=kind, axis=axis)

    def bmm(self, a, b, dims, transpose_a=False, transpose_b=False, scale=1.0):
        return self.op("batch_matmul", [a, b], dims, transpose_a=transpose_a, transpose_b=transpose_b, scale=scale)

    def conv(self, x, weight, bias=None, activation="none", state=None, dilation=1, reverse=False):
        s = self.state(state, [(weight.shape[1] - 1) * dilation, weight.shape[0]]) if state else None
        return self.op(
            "causal_conv",
            [x, weight, bias, s],
            x.dims,
            [s] if s else [],
            activation=activation,
            dilation=dilation,
            reverse=reverse,
        )

    def delay(self, x, tokens, state):
        """The value of some tokens ago, zeros before the first."""
        width = 1
        for d in x.dims[1:]:
            width *= d
        w = torch.zeros(width, tokens + 1, dtype=torch.float64)
        w[:, 0] = 1
        return self.reshape(self.conv(self.reshape(x, [x.dims[0], width]), w, state=state), x.dims)

    def elu1(self, x):
        """elu(x) + 1."""
        return self.add(
            self.unary("relu", x), self.unary("exp", self.unary("neg", self.unary("relu", self.unary("neg", x))))
        )

    def expect(self, **tensors):
        for name, t in tensors.items():
            self.io[name] = (t if t.dtype == torch.int32 else t.detach().float()).contiguous().clone()

    def save(self):
        folder = os.path.join(HERE, self.name)
        os.makedirs(folder, exist_ok=True)
        symbols = [{"name": n, "kind": "option"} for n in ("context", "chunk", "rollback")]
        if self.is_stream:
            symbols.append({"name": STREAM, "kind": "axis", "bound": "chunk"})
        used = {n for p in self.programs for op in p["ops"] for n in op["inputs"]} | {
            n for s in self.states if (n := s.get("initial"))
        }
        model = {
            "name": self.name,
            "context": self.context,
            "symbols": symbols,
            "states": self.states,
            "programs": self.programs,
        }
        with open(os.path.join(folder, "graph.json"), "w") as f:
            json.dump(model, f, separators=(",", ":"))
            f.write("\n")
        save_file({k: v for k, v in self.tensors.items() if k in used}, os.path.join(folder, "weights.safetensors"))
        save_file(self.io, os.path.join(folder, "io.safetensors"))
        size = sum(os.path.getsize(os.path.join(folder, n)) for n in os.listdir(folder))
        print(f"{self.name}: {sum(len(p['ops']) for p in self.programs)} operators, {size / 1024:.0f} KiB")
