"""Models: what they tell of themselves, texts and ids, errors."""

import dataclasses
import json
import os
import re

import numpy as np
import pytest
from conftest import REPOSITORY, cli

import runnel
from runnel import _abi


def test_version():
    assert runnel.__version__ in cli("runnel", "--version").decode()
    assert re.fullmatch(r"\d+\.\d+", runnel.format_version)


def test_info_and_graph(chat_model, chat_path):
    info = chat_model.info
    assert (info.architecture, info.has_chat, info.vocabulary, info.context) == ("llama", True, 613, 8192)
    assert info.file_bytes == os.path.getsize(chat_path)
    main = chat_model.program()
    assert (
        main == chat_model.programs[0]
        and main.inputs == len(chat_model.inputs())
        and main.outputs == len(chat_model.outputs())
    )
    ids = chat_model.inputs(main.name)[0]
    assert (ids.name, ids.dtype, ids.sizes, ids.role, ids.optional) == (
        "ids",
        runnel.DType.I32,
        (main.stream,),
        runnel.Role.TOKENS,
        False,
    )
    assert [v.name for v in chat_model.outputs() if not v.optional] == ["logits"]
    assert {s.name: s.kind for s in chat_model.symbols}[main.stream] == runnel.SymbolKind.AXIS
    assert all(s.kind == runnel.StateKind.APPEND and len(s.sizes) == s.rank for s in chat_model.states)
    with pytest.raises(runnel.NotFound, match='no program "other"; it has main'):
        chat_model.inputs("other")


def test_fields_are_the_header_s():
    """Every field of the structs of runnel.h that the library fills in, but for their size."""
    with open(os.path.join(REPOSITORY, "runtime", "include", "runnel", "runnel.h")) as f:
        header = re.sub(r"/\*.*?\*/", "", f.read(), flags=re.S)
    for name, kind in (
        ("model_info", _abi.ModelInfo),
        ("memory", _abi.Memory),
        ("value_info", _abi.Value),
        ("chat_result", _abi.ChatResult),
    ):
        body = re.search(rf"typedef struct rnl_{name} \{{(.*?)\}}", header, re.S).group(1)
        fields = re.findall(r"(\w+)(?:\[\d+\])?\s*[,;]", body)
        assert ["struct_size"] + [f.name for f in dataclasses.fields(kind)] == fields


def test_texts(models, chat_model, chat_path):
    texts = ["Hello, world", "", "Grüße 🙂", "<|im_end|>"]
    lines, out = models.path("lines.jsonl"), models.path("ids.jsonl")
    for special in (False, True):
        with open(lines, "w") as f:
            f.writelines(json.dumps({"text": t}) + "\n" for t in texts)
        cli("runnel", "tokenize", chat_path, "--in", lines, "--out", out, *(["--special"] if special else []))
        with open(out) as f:
            want = [json.loads(line) for line in f]
        for text, line in zip(texts, want):
            ids = chat_model.tokenize(text, special=special)
            assert ids.dtype == np.int32 and ids.tolist() == line["ids"]
            assert chat_model.detokenize(ids, special=special) == line["text"]
    assert chat_model.detokenize([]) == ""


def test_chats(chat_model):
    messages = [{"role": "system", "content": "Be brief."}, ("user", "Hi <|im_end|>")]
    text = chat_model.chat_text(messages, variables={"opening": "So: "})
    assert (
        text
        == "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi <|im_end|><|im_end|>\n<|im_start|>assistant\nSo: "
    )
    assert text.startswith(chat_model.chat_text(messages, closed=True))
    assert chat_model.detokenize(chat_model.chat_ids(messages), special=True).startswith("<|im_start|>system")
    assert chat_model.chat_text("Hi") == chat_model.chat_text([("user", "Hi")])
    assert len(chat_model.chat_turn("Hi", system="Be brief.")) > len(chat_model.chat_turn("Hi", first=False)) > 0
    with pytest.raises(runnel.InvalidArgument, match="No such system!"):
        chat_model.chat_text([("system", "never")])


def test_plan_is_exact(chat_model):
    options = dict(context=300, chunk=32, rollback_window=16, kv="q8")
    with runnel.Session(chat_model, **options) as s:
        assert s.memory == chat_model.plan(**options)
    with pytest.raises(runnel.BudgetExceeded, match="needed|needs"):
        runnel.Session(chat_model, budget_bytes=1000)


def test_errors(tmp_path, chat_model, chat_path):
    with pytest.raises(runnel.NotFound, match="nowhere.rnl") as e:
        runnel.Model(tmp_path / "nowhere.rnl")
    assert e.value.status == runnel.Status.NOT_FOUND
    path = tmp_path / "text.rnl"
    path.write_text("no model at all " * 100)
    with pytest.raises(runnel.InvalidModel):
        runnel.Model(path)
    with pytest.raises(ValueError, match="999 threads"):
        runnel.Engine(999)
    with pytest.raises(TypeError, match='no option "contxt"'):
        runnel.Session(chat_model, contxt=5)
    with pytest.raises(TypeError, match="context cannot be 'many'"):
        runnel.Session(chat_model, context="many")
    with pytest.raises(KeyError):
        runnel.Session(chat_model, kv="q9")
    model = runnel.Model(chat_path)
    model.close()
    with pytest.raises(runnel.InvalidArgument, match="the model is closed"):
        model.tokenize("x")
    assert set(_abi.ERRORS) == {
        c for c in vars(runnel).values() if isinstance(c, type) and issubclass(c, runnel.Error)
    } - {runnel.Error, runnel.Busy, runnel.ConversionFailed}
    assert [c.status for c in _abi.ERRORS] == list(runnel.Status)[1:]


def test_damage_is_found(tmp_path, chat_path):
    data = bytearray(open(chat_path, "rb").read())
    data[len(data) // 2] ^= 1
    path = tmp_path / "damaged.rnl"
    path.write_bytes(data)
    with runnel.Model(path) as model, pytest.raises(runnel.InvalidModel):
        model.verify()
    runnel.Model(chat_path).verify()


def test_from_memory(chat_path, chat_model):
    data = np.fromfile(chat_path, np.uint8)
    room = np.empty(len(data) + 64, np.uint8)
    begin = -room.ctypes.data % 64
    room[begin : begin + len(data)] = data
    model = runnel.Model.from_memory(room[begin : begin + len(data)])
    del room
    session = runnel.Session(model)
    del model
    assert "".join(session.generate("Hello", max_tokens=8)) == "".join(
        runnel.Session(chat_model).generate("Hello", max_tokens=8)
    )


def test_copy_and_engines(chat_path):
    engine = runnel.Engine(1)
    assert engine.threads == 1 and runnel.Engine.default() is runnel.Engine.default()
    model = runnel.Model(chat_path, engine=engine, copy=True)
    engine.close()
    assert runnel.Session(model).generate("Hello", max_tokens=2).__next__()


def test_notices_and_devices(chat_model):
    said = []
    runnel.set_log(lambda level, message: said.append((level, message)))
    try:
        lines = runnel.vulkan_devices()
        assert all(isinstance(line, str) for line in lines)
    except (runnel.NotFound, runnel.Unsupported) as e:
        assert str(e)
        with pytest.raises(runnel.Error):
            runnel.Session(chat_model, backend="vulkan")
    finally:
        runnel.set_log(None)
    assert all(level in (0, 1) and message for level, message in said)
