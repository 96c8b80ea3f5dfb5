"""Answers: the text of the command line, piece by piece, to be stopped anywhere."""

import json

import pytest
from conftest import cli

import runnel

PROMPT = "The rivers of the north"


def by_cli(path, *options):
    return cli("runnel", "run", path, "-p", PROMPT, *options).decode().removesuffix("\n")


def test_text_is_that_of_the_command_line(chat_model, chat_path, session):
    answer = session.generate(PROMPT, max_tokens=40)
    pieces = list(answer)
    assert len(pieces) > 5 and all(pieces)
    assert "".join(pieces) == answer.text == by_cli(chat_path, "-n", "40")
    assert len(answer.tokens) == len(answer.ids) == 40 and answer.is_done
    assert "".join(t.text for t in answer.tokens) == answer.text
    assert session.position == len(chat_model.tokenize(PROMPT)) + 39  # the last one is pending


@pytest.mark.parametrize(
    "options, flags",
    [
        (dict(temperature=0.9, seed=7), ["--temp", "0.9", "--seed", "7"]),
        (
            dict(temperature=1.2, seed=3, top_k=20, top_p=0.9, min_p=0.01),
            ["--temp", "1.2", "--seed", "3", "--top-k", "20", "--top-p", "0.9", "--min-p", "0.01"],
        ),
        (dict(stop=["e", "zz"]), ["--stop", "e", "--stop", "zz"]),
        (dict(stop="e"), ["--stop", "e"]),
        (dict(json_schema=True), ["--json-output"]),
        (dict(grammar='root ::= "yes" | "no"'), ["--grammar", 'root ::= "yes" | "no"']),
    ],
)
def test_options(chat_path, session, options, flags):
    answer = session.generate(PROMPT, max_tokens=30, **options)
    assert "".join(answer) == by_cli(chat_path, "-n", "30", *flags)


def test_draws_differ_without_a_seed(session):
    texts = set()
    for _ in range(4):
        session.reset()
        texts.add("".join(session.generate(PROMPT, max_tokens=30, temperature=1.5)))
    assert len(texts) > 1


def test_schema(session, chat_model):
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer", "minimum": 1, "maximum": 9}, "ok": {"type": "boolean"}},
        "required": ["n", "ok"],
    }
    grammar = runnel.Grammar.from_json_schema(chat_model, schema)
    for given in (dict(json_schema=schema), dict(grammar=grammar), dict(json_schema=json.dumps(schema))):
        session.reset()
        document = json.loads("".join(session.generate(PROMPT, max_tokens=60, temperature=0.7, seed=1, **given)))
        assert 1 <= document["n"] <= 9 and document["ok"] in (True, False)
    with pytest.raises(runnel.InvalidArgument, match="line 1"):
        session.generate(PROMPT, grammar="root ::= nothing")
    with pytest.raises(runnel.InvalidArgument):
        runnel.Grammar.from_json_schema(chat_model, {"type": "number", "multipleOf": 0.3})
    with pytest.raises(TypeError, match="not both"):
        session.generate(PROMPT, json_schema=True, grammar=grammar)


def test_bias_and_logprobs(session):
    plain = session.generate(PROMPT, max_tokens=5, logprobs_count=3)
    list(plain)
    for token in plain.tokens:
        assert len(token.best) == 3 and token.best[0][0] == token.id and token.logprob == token.best[0][1] <= 0
    session.reset()
    first = plain.ids[0]
    other = session.generate(PROMPT, max_tokens=5, bias={first: float("-inf")})
    list(other)
    assert first not in other.ids and other.tokens[0].logprob is None


def test_cut_off_and_gone_on_with(session):
    whole = "".join(session.generate(PROMPT, max_tokens=30))
    session.reset()
    parts = "".join(session.generate(PROMPT, max_tokens=11))
    parts += "".join(session.generate(max_tokens=19))
    assert parts == whole


def test_closed_midway(chat_model, session):
    """The stream holds what was taken and no more; the next call goes on."""
    whole = session.generate(PROMPT, max_tokens=30)
    list(whole)
    session.reset()
    with session.generate(PROMPT, max_tokens=30) as answer:
        for _ in answer:
            if len(answer.tokens) >= 7:
                break
    taken = len(answer.tokens)
    assert session.position == len(chat_model.tokenize(PROMPT)) + taken - 1
    rest = session.generate(max_tokens=30 - taken)
    list(rest)
    assert answer.ids + rest.ids == whole.ids
    assert next(answer, None) is None
    answer.close()
    session.rollback(3)


def test_never_begun(session):
    answer = session.generate(PROMPT)
    del answer
    session.generate(PROMPT).close()
    assert session.position == 0


def test_dropped_answer_gives_the_session_back(session):
    for _ in session.generate(PROMPT, max_tokens=20):
        break  # nothing refers to the answer any more
    session.reset()


def test_session_closed_first(chat_model):
    session = runnel.Session(chat_model, context=512)
    answer = session.generate(PROMPT)
    next(answer)
    session.close()
    assert list(answer) == []
    with pytest.raises(runnel.InvalidArgument, match="the session is closed"):
        session.reset()
    session.close()


def test_errors_come_with_the_first_piece(session):
    with pytest.raises(runnel.InvalidArgument, match="temperature"):
        next(session.generate(PROMPT, temperature=-1.0))
    with pytest.raises(runnel.InvalidArgument, match="nothing to continue"):
        next(session.generate())
    with pytest.raises(TypeError, match='no option "temprature"'):
        session.generate(PROMPT, temprature=1)
    assert session.position == 0
    answer = session.generate(PROMPT, ignore_end=True)
    with pytest.raises(runnel.Error):  # the context is full at some time
        session.generate(list(range(1, 600))).__next__()
    assert "".join(answer)


def test_progress(chat_model):
    steps = []
    with runnel.Session(chat_model, context=2048, chunk=64) as session:
        next(session.generate([5] * 1000, progress=lambda done, total: steps.append((done, total))))
    assert steps and steps[-1][1] == 1000 and all(0 < done <= 1000 for done, _ in steps)


def test_characters_are_whole(models):
    """Answers in bytes of three and four byte characters come as characters."""
    model = runnel.Model(models.model("tiny_llama"))
    with runnel.Session(model) as session:
        answer = session.generate([1, 2, 3], max_tokens=4)
        assert list(answer) == [""] * 4 and len(answer.ids) == 4  # no tokenizer: a piece a token, without text


def test_chat_is_that_of_the_command_line(chat_model, chat_path):
    import os
    import subprocess

    import support

    said = subprocess.run(
        [os.path.join(support.BIN, "runnel"), "chat", chat_path, "-n", "6", "--system", "Be brief."],
        input=b"Hello\nAnd more?\n",
        stdout=subprocess.PIPE,
        timeout=120,
    ).stdout.decode()
    messages = [{"role": "system", "content": "Be brief."}]
    text = ""
    with runnel.Session(chat_model) as session:
        for question in ("Hello", "And more?"):
            messages.append({"role": "user", "content": question})
            answer = session.chat(messages, max_tokens=6)
            text += "".join(answer) + "\n"
            messages.append({"role": "assistant", "content": answer.text})
        assert text == said
        result = answer.result
        assert result.kept > 0 and result.dropped == 0 and result.fed > 0 and result.generated == len(answer.ids)
        with pytest.raises(runnel.InvalidArgument, match="No such system!"):
            next(session.chat([("system", "never")]))
        assert "".join(session.chat("Hello", max_tokens=3, variables={"opening": "So"}))
