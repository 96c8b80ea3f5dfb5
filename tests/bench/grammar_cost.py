"""Answers under JSON Schemas: that all are documents of theirs, and what a grammar costs a token. By hand:
  python3 tests/bench/grammar_cost.py MODEL.rnl [--bin build/release/tests] [--samples 1000] [--threads 1] [--grammars person,book,any] [--keep FILE]
Needs the target grammar_cost. Documents are read by Python's json and held against their schema by the few lines below, which refuse a keyword
that they do not know. Exit code 1 when a document is wrong or missing, or a cost is above LIMIT of decode in the mean."""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile

LIMIT = 0.05
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 30},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "city": {"enum": ["Berlin", "Paris", "Rome", "Madrid"]},
        "mail": {"type": "string", "pattern": "^[a-z]{1,12}@[a-z]{1,12}\\.(com|org)$"},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 12}, "minItems": 1, "maxItems": 4},
        "active": {"type": "boolean"},
    },
    "required": ["name", "age", "city", "mail", "tags", "active"],
    "additionalProperties": False,
}
BOOK = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "maxLength": 60},
        "about": {"type": "string", "maxLength": 200},
        "price": {"type": "number", "minimum": 0},
        "author": {
            "anyOf": [
                {"type": "null"},
                {
                    "type": "object",
                    "properties": {"name": {"type": "string", "maxLength": 40}},
                    "required": ["name"],
                    "additionalProperties": False,
                },
            ]
        },
    },
    "required": ["title", "about", "price"],
    "additionalProperties": False,
}
SCHEMAS = {
    "person": (PERSON, "A person as JSON: "),
    "book": (BOOK, "A book that I read, as JSON: "),
    "any": (None, "Some JSON: "),
}
# Temperature, top-k, top-p; how many answers are drawn, in parts of all samples (0: one, as they are all the same).
SAMPLING = {
    "greedy": (0, 0, 1, 0),
    "temperature 1": (1, 0, 1, 0.2),
    "top-p 0.95": (1, 0, 0.95, 0.4),
    "top-k 40": (1, 40, 1, 0.4),
}
MOST_TOKENS = 400
COMPARED = 12  # answers of a row that are timed


def fits(v, schema):
    """Whether a value is one of the schema's, for the keywords of the schemas above."""
    known = {
        "type",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "minItems",
        "maxItems",
        "minLength",
        "maxLength",
        "minimum",
        "maximum",
        "enum",
        "pattern",
        "anyOf",
    }
    if set(schema) - known:
        raise ValueError(f"unknown keywords {set(schema) - known}")
    types = {
        "object": dict,
        "array": list,
        "string": str,
        "boolean": bool,
        "null": type(None),
        "integer": int,
        "number": (int, float),
    }
    if "type" in schema and (
        not isinstance(v, types[schema["type"]]) or (isinstance(v, bool) and schema["type"] != "boolean")
    ):
        return False
    if (
        "enum" in schema
        and v not in schema["enum"]
        or "anyOf" in schema
        and not any(fits(v, s) for s in schema["anyOf"])
    ):
        return False
    if isinstance(v, dict):
        named = schema.get("properties", {})
        if set(schema.get("required", [])) - set(v) or (
            schema.get("additionalProperties") is False and set(v) - set(named)
        ):
            return False
        return all(fits(x, named[k]) for k, x in v.items() if k in named)
    if isinstance(v, list):
        return schema.get("minItems", 0) <= len(v) <= schema.get("maxItems", len(v)) and all(
            fits(x, schema.get("items", {})) for x in v
        )
    if isinstance(v, str):
        return (
            schema.get("minLength", 0) <= len(v) <= schema.get("maxLength", len(v))
            and re.search(schema.get("pattern", ""), v) is not None
        )
    if isinstance(v, (int, float)) and not isinstance(v, bool):
        return schema.get("minimum", v) <= v <= schema.get("maximum", v)
    return True


def once(pairs):
    """Of an object: each name once."""
    if len({k for k, _ in pairs}) != len(pairs):
        raise ValueError("a name stands twice")
    return dict(pairs)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--bin", default="build/release/tests")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--grammars", default=",".join(SCHEMAS))
    parser.add_argument("--keep", help="where the documents go")
    o = parser.parse_args()
    chosen = {name: SCHEMAS[name] for name in o.grammars.split(",")}
    schemas = sum(1 for schema, _ in chosen.values() if schema)
    wrong, whole, drawn = [], 0, 0
    kept = open(o.keep or os.devnull, "w", encoding="utf-8")
    print(
        "| grammar | choice | answers | tokens | decode, us | added, mean | median | first answer, mean | its grammar, ms | remembered, MiB |\n|---|---|---|---|---|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as folder:
        for name, (schema, prompt) in chosen.items():
            grammar, out = "json", os.path.join(folder, "documents")
            if schema:
                grammar = os.path.join(folder, "schema.json")
                with open(grammar, "w") as f:
                    json.dump(schema, f)
            for choice, (temperature, top_k, top_p, share) in SAMPLING.items():
                # Any JSON may go on for ever: of it some answers are drawn for the cost, beside the samples.
                count = 1 if share == 0 else max(1, round(o.samples * share / schemas)) if schema else COMPARED
                said = subprocess.run(
                    [
                        os.path.join(o.bin, "grammar_cost"),
                        o.model,
                        grammar,
                        prompt,
                        str(count),
                        str(COMPARED),
                        str(MOST_TOKENS),
                        str(temperature),
                        str(top_k),
                        str(top_p),
                        str(o.threads),
                        out,
                    ],
                    check=True,
                    stdout=subprocess.PIPE,
                ).stdout
                r = json.loads(said)
                with open(out, encoding="utf-8") as f:
                    answers = [json.loads(line) for line in f]
                for complete, text in answers:
                    kept.write(json.dumps(text, ensure_ascii=False) + "\n")
                    if not schema and not complete:
                        continue
                    try:
                        value = json.loads(text, object_pairs_hook=once)
                        if schema and not fits(value, schema):
                            wrong.append(f"{name}, {choice}: not of the schema: {text}")
                        whole += bool(schema)
                    except ValueError as e:
                        wrong.append(f"{name}, {choice}: {e}: {text}")
                drawn += len(answers) if schema else 0
                decode = r["free_fed"]["mean"] + r["free_chosen"]["mean"]
                added, first = r["added"], r["added_first"]["mean"]
                if added["mean"] > LIMIT * decode:
                    wrong.append(f"{name}, {choice}: the grammar costs {100 * added['mean'] / decode:.1f}% of decode")
                print(
                    f"| {name} | {choice} | {r['answers']} | {r['tokens']} | {decode:.0f} | {added['mean']:.0f} us, {100 * added['mean'] / decode:.2f}% | {added['median']:.0f} us | "
                    f"{first:.0f} us, {100 * first / decode:.2f}% | {r['grammar_us'] / 1e3:.1f} | {r['cache_bytes'] / 2**20:.2f} |",
                    flush=True,
                )
                kept.flush()
    print(f"\n{drawn} answers under schemas, {whole} valid JSON documents.")
    kept.close()
    if schemas and (drawn < o.samples or whole < drawn):
        wrong.append(f"{whole} documents of {max(drawn, o.samples)}")
    print("\n".join(wrong) if wrong else "All are as they should be.")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
