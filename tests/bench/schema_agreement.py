"""JSON Schemas against the Python package jsonschema (4.x): random documents of a schema's grammar must be valid, random valid documents that are
written as a grammar writes them must be of it. By hand:
  python3 tests/bench/schema_agreement.py [--bin build/release/tests] [--schemas 400] [--documents 40] [--seed 1]
Needs the target schema_agreement. Schemas are random, of the keywords that a grammar is made for, with annotations between them; one that is
refused is counted, not wrong. Exit code 1 where the two disagree."""

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile

import jsonschema

ANNOTATIONS = [
    ("title", "t"),
    ("x-order", 3),
    ("description", "d"),
    ("examples", [1]),
    ("deprecated", True),
    ("propertyOrdering", ["a"]),
    ("readOnly", True),
    ("format", "made-up"),
    ("xml", {}),
]
PATTERNS = ["^[a-c]+$", "b", "^a[0-9]{2,4}$", "^(foo|ba)+$", "c$", "^(?!a)[a-d]*$", "^\\w+-\\d$"]
WORDS = [
    "",
    "a",
    "b",
    "c",
    "ab",
    "foo",
    "bafoo",
    "a12",
    "a1234",
    "d",
    "ca",
    "abcabc",
    "ba-1",
    "é",
    "aaaa",
    "x\n",
    'q"r',
]


def schema(rng, depth):
    """A random schema."""
    kind = rng.choice(
        ["string", "string", "integer", "number", "boolean", "null", "enum", "const"]
        + (["object", "object", "array", "array", "anyOf", "allOf", "unique", "ref", "types", "not"] if depth else [])
    )
    s = {}
    if kind == "string":
        s = {"type": "string"}
        if rng.random() < 0.5:
            s["pattern"] = rng.choice(PATTERNS)
        if rng.random() < 0.5:
            s["minLength"] = rng.randrange(4)
        if rng.random() < 0.5:
            s["maxLength"] = rng.choice([1, 2, 3, 5, 8, 60, 900])
    elif kind in ("integer", "number"):
        s = {"type": kind}
        for key in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
            if rng.random() < 0.3:
                s[key] = rng.choice([0, 3, -7, 100, 2.5, -0.25])
    elif kind in ("boolean", "null"):
        s = {"type": kind}
    elif kind == "enum":
        s = {"enum": [value(rng, 1) for _ in range(1 + rng.randrange(4))]}
        if rng.random() < 0.3:
            s["maxLength"] = 2
    elif kind == "const":
        s = {"const": value(rng, 1)}
    elif kind == "object":
        s = {
            "type": "object",
            "properties": {
                n: schema(rng, depth - 1) for n in rng.sample(["a", "b", "c", "a/b", "x y"], rng.randrange(4))
            },
        }
        s["required"] = [n for n in s["properties"] if rng.random() < 0.5]
        if rng.random() < 0.5:
            s["additionalProperties"] = rng.choice([False, True, schema(rng, depth - 1)])
        elif rng.random() < 0.3:
            s["unevaluatedProperties"] = False
        if rng.random() < 0.1:
            s["propertyNames"] = {"maxLength": 3}
    elif kind == "array":
        s = {"type": "array", "items": schema(rng, depth - 1)}
        if rng.random() < 0.3:
            s["prefixItems"] = [schema(rng, depth - 1) for _ in range(1 + rng.randrange(2))]
        if rng.random() < 0.4:
            s["minItems"] = rng.randrange(3)
        if rng.random() < 0.5:
            s["maxItems"] = rng.choice([1, 2, 3, 30])
    elif kind == "unique":
        s = {
            "type": "array",
            "items": {"enum": rng.sample([1, 2, "a", "b", None, True, "cc", 7, 8, 9, 10], 1 + rng.randrange(11))},
            "uniqueItems": True,
        }
        if rng.random() < 0.5:
            s["minItems"] = rng.randrange(3)
        if rng.random() < 0.5:
            s["maxItems"] = 1 + rng.randrange(4)
    elif kind in ("anyOf", "allOf"):
        s = {kind: [schema(rng, depth - 1) for _ in range(2)]}
        if rng.random() < 0.3:
            s["type"] = rng.choice(["string", "object", "integer"])
    elif kind == "ref":
        s = {"$ref": "#/$defs/d" + str(rng.randrange(2))}
        if rng.random() < 0.3:
            s["maxLength"] = 4
    elif kind == "types":
        s = {"type": rng.sample(["string", "integer", "null", "array", "object"], 2), "maxLength": 3, "maxItems": 2}
    else:
        s = {
            "type": "string",
            "not": rng.choice([{"type": "null"}, {"enum": [1, 2]}, {"type": "object", "required": ["a"]}]),
        }
    for key, v in rng.sample(ANNOTATIONS, rng.randrange(3)):
        s.setdefault(key, v)
    return s


def value(rng, depth):
    """A random value."""
    kind = rng.randrange(8 if depth else 6)
    if kind < 2:
        return rng.choice(WORDS)
    if kind == 2:
        return rng.choice([0, 1, 2, 3, -7, 100, 99, 7, 8])
    if kind == 3:
        return rng.choice([2.5, -0.25, 0.5, 99.75])
    if kind < 6:
        return rng.choice([None, True, False])
    if kind == 6:
        return [value(rng, depth - 1) for _ in range(rng.randrange(4))]
    return {n: value(rng, depth - 1) for n in rng.sample(["a", "b", "c", "a/b", "x y"], rng.randrange(4))}


def near(rng, s, root, depth=0):
    """A value that has a chance to be of the schema, its names in the schema's order."""
    if depth > 6 or not isinstance(s, dict) or rng.random() < 0.05:
        return value(rng, 2)
    if "$ref" in s:
        return near(rng, root["$defs"][s["$ref"][-2:]], root, depth + 1)
    if "anyOf" in s or "allOf" in s:
        return near(rng, rng.choice(s.get("anyOf") or s["allOf"]), root, depth + 1)
    if "enum" in s or "const" in s:
        return rng.choice(s.get("enum") or [s.get("const")])
    t = s.get("type")
    t = rng.choice(t) if isinstance(t, list) else t
    if t == "object":
        out = {
            n: near(rng, v, root, depth + 1)
            for n, v in s.get("properties", {}).items()
            if n in s.get("required", ()) or rng.random() < 0.7
        }
        if s.get("additionalProperties", False) is not False and rng.random() < 0.5:
            out["zz"] = near(rng, s["additionalProperties"], root, depth + 1)
        return out
    if t == "array":
        items = [near(rng, v, root, depth + 1) for v in s.get("prefixItems", [])]
        return items + [near(rng, s.get("items", True), root, depth + 1) for _ in range(rng.randrange(5))]
    if t == "string":
        return rng.choice(WORDS)
    return {
        "integer": rng.choice([0, 1, 3, 4, -7, 50, 100]),
        "number": rng.choice([0, 2.5, 1.25, 3, -0.5]),
        "boolean": rng.random() < 0.5,
        "null": None,
    }.get(t, value(rng, 1))


def named(s):
    """All names of properties anywhere in a schema."""
    if isinstance(s, dict):
        return set(s.get("properties", {})).union(*(named(v) for v in s.values())) if s else set()
    return set().union(*(named(v) for v in s)) if isinstance(s, list) else set()


def beyond(s, v):
    """Whether a valid document is none of the grammar for a reason that json_schema.hpp names: names that additionalProperties does not ask for, many
    different values in another order than the schema's, objects in enum and const, which are written in one way."""
    text = json.dumps(v)
    return "uniqueItems" in json.dumps(s) or any(
        json.dumps(n) + ":" in text for n in {"a", "b", "c", "a/b", "x y", "zz"} - named(s)
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", default="build/release/tests")
    parser.add_argument("--schemas", type=int, default=400)
    parser.add_argument("--documents", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    o = parser.parse_args()
    rng = random.Random(o.seed)
    program = os.path.join(o.bin, "schema_agreement")
    wrong, refusals, written, valid, missed = [], {}, 0, 0, []
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "schema.json")
        for number in range(o.schemas):
            root = schema(rng, 3)
            root["$defs"] = {"d0": schema(rng, 1), "d1": {"type": "string", "maxLength": 6}}
            if "$ref" in json.dumps(root["$defs"]):
                root["$defs"]["d0"] = {"type": "boolean"}
            with open(path, "w", encoding="utf-8") as f:
                json.dump(root, f)
            validator = jsonschema.Draft202012Validator(root)
            walked = subprocess.run(
                [program, path, "walk", str(o.documents), str(number)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            if walked.returncode == 3:
                reason = re.sub(r"^\S* |\"[^\"]*\"|\d+", "", walked.stderr.decode()).strip()
                refusals[reason] = refusals.get(reason, 0) + 1
                if "no value matches" in reason or "no text matches" in reason:
                    found = [v for v in (near(rng, root, root) for _ in range(300)) if validator.is_valid(v)]
                    if found:
                        missed.append((root, found[0]))
                continue
            if walked.returncode != 0:
                wrong.append(f"exit code {walked.returncode}: {json.dumps(root)}")
                continue
            noted = "note" in walked.stderr.decode()
            for line in walked.stdout.decode().split("\n"):
                if not line:
                    continue
                written += 1
                try:
                    if not validator.is_valid(json.loads(line)) and not noted:
                        wrong.append(f"not valid: {line} for {json.dumps(root)}")
                except ValueError:
                    wrong.append(f"not JSON: {line} for {json.dumps(root)}")
            documents = [v for v in (near(rng, root, root) for _ in range(3 * o.documents)) if validator.is_valid(v)]
            lines = "".join(json.dumps(v, ensure_ascii=False, separators=(",", ":")) + "\n" for v in documents)
            checked = (
                subprocess.run(
                    [program, path, "check"],
                    input=lines.encode(),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    check=True,
                )
                .stdout.decode()
                .split()
            )
            for v, said in zip(documents, checked):
                valid += 1
                if said == "no":
                    missed.append((root, v))
    print(
        f"{o.schemas} schemas, {sum(refusals.values())} refused; {written} documents of grammars; {valid} valid documents, {len(missed)} not of the grammar"
    )
    for reason, n in sorted(refusals.items(), key=lambda x: -x[1])[:12]:
        print(f"  {n} x {reason}")
    for root, v in [m for m in missed if not beyond(*m)][:10]:
        print(f"  valid, not of the grammar: {json.dumps(v)} for {json.dumps(root)[:1500]}")
    print("\n".join(wrong[:10]) if wrong else "Every document of a grammar is valid.")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
