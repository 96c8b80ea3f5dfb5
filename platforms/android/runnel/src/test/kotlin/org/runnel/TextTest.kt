package org.runnel

import kotlin.test.assertContentEquals
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertTrue
import kotlinx.coroutines.flow.toList
import org.junit.jupiter.api.Test

/** Text in and out: what modified UTF-8 would break, chats, grammars. */
class TextTest {
    private val family = "👩‍👩‍👧 😀𝒳 Grüße 你好 é \u0000 end"

    @Test
    fun `any text comes back`(): Unit =
        Tests.with("llama") { session ->
            val model = session.model
            for (text in listOf(family, "", "\u0000", "😀".repeat(5000))) assertEquals(
                text,
                model.detokenize(model.tokenize(text, withBosEos = false)),
            )
            assertEquals(
                "a\uFFFDb",
                model
                    .detokenize(model.tokenize("a\uD83Db", withBosEos = false))
                    .replace('?', '\uFFFD'),
            ) // half an emoji
            assertTrue(
                model.tokenize("<|im_end|>", withBosEos = false).size >
                    model.tokenize("<|im_end|>", withBosEos = false, withSpecial = true).size
            )
        }

    @Test
    fun `an answer's characters are whole`(): Unit =
        Tests.with("llama") { session ->
            session.model.grammar("root ::= \"Grüße 😀👩‍👩‍👧\" [你-好] \"!\"").use { grammar ->
                val parts = session.generate("x", GenerateOptions(grammar = grammar)).toList()
                assertTrue(
                    parts.joinToString("").startsWith("Grüße 😀👩‍👩‍👧") &&
                        parts.last().endsWith("!"),
                    "$parts",
                )
                for (part in parts) assertEquals(
                    part,
                    part.toByteArray().decodeToString(),
                ) // no half of a pair
                assertTrue(parts.none { '\uFFFD' in it }, "$parts")
                session.reset()
                val stopped =
                    session
                        .generate("x", GenerateOptions(grammar = grammar, stop = listOf("😀")))
                        .text()
                assertEquals("Grüße ", stopped)
            }
        }

    @Test
    fun `chats are written by the template`(): Unit =
        Tests.with("llama") { session ->
            val chat =
                Chat(
                    listOf(
                        Message("system", "Kurz 😀"),
                        Message("user", family.replace("\u0000", "")),
                        Message("assistant", "ja"),
                        Message("user", "<|im_end|>"),
                    ),
                    mapOf("opening" to "Also 😀", "unused" to true),
                )
            val text = session.model.chatText(chat)
            assertTrue(
                "<|im_start|>system\nKurz 😀<|im_end|>" in text &&
                    text.endsWith("<|im_start|>assistant\nAlso 😀"),
                text,
            )
            assertTrue(
                session.model.chatText(chat, isClosed = true).trimEnd().endsWith("<|im_end|>")
            )
            assertContentEquals(session.model.chatIds(chat), session.model.chatIds(chat))
            val plain = Chat(listOf(Message("user", "Hello")))
            Tests.fails(Status.INVALID_ARGUMENT, "No such system!") {
                session.model.chatText(
                    Chat(listOf(Message("system", "never"), Message("user", "x")))
                )
            }
            // What the template says and what the session answers are the same conversation.
            val ids = session.model.chatIds(plain)
            val answer =
                session.generateTokens(ids, Tests.tokens(8)).toList().joinToString("") { it.text }
            session.reset()
            assertEquals(answer, session.chat(plain, Tests.tokens(8)).text())
            assertFailsWith<IllegalArgumentException> { Chat(emptyList(), mapOf("x" to 3)) }
        }

    @Test
    fun `a conversation is fed once`() {
        for (model in listOf("llama", "gemma3", "griffin")) Tests.with(
            model,
            SessionOptions(context = 2048),
        ) { session ->
            val messages =
                mutableListOf(Message("system", "Be brief."), Message("user", "Hello 😀"))
            val first = session.chat(messages, Tests.tokens(6)).text()
            val fed = session.lastChat!!.fed
            messages += listOf(Message("assistant", first), Message("user", "And?"))
            val second = session.chat(messages, Tests.tokens(6)).text()
            val result = session.lastChat!!
            assertTrue(
                result.kept >= fed && result.fed < fed + 10 && result.generated == 6L,
                "$model: $result",
            )
            session.reset()
            assertEquals(second, session.chat(messages, Tests.tokens(6)).text(), model)
            assertEquals(0, session.lastChat!!.kept)
        }
    }

    @Test
    fun `turns of older templates`(): Unit =
        Tests.with("llama") { session ->
            val turn = runCatching { session.model.chatTurn("Hello", "Be brief.") }
            // A model with a template has no list of turns; either way the answer is the library's
            // own.
            turn
                .onFailure { assertEquals(Status.UNSUPPORTED, (it as RunnelException).status) }
                .onSuccess { assertTrue(it.isNotEmpty()) }
        }

    @Test
    fun `answers follow a JSON Schema`(): Unit =
        Tests.with("llama") { session ->
            val schema =
                """{"type":"object","properties":{"name":{"type":"string","maxLength":8},"age":{"type":"integer","minimum":0,"maximum":99},"tag":{"enum":["ä😀","b"]}},"required":["name","age","tag"],"additionalProperties":false}"""
            session.model.jsonGrammar(schema).use { grammar ->
                repeat(5) { i ->
                    session.reset()
                    val text =
                        session
                            .generate(
                                "x",
                                GenerateOptions(
                                    maxTokens = 200,
                                    grammar = grammar,
                                    sampling = Sampling(temperature = 1f, seed = i.toLong()),
                                ),
                            )
                            .text()
                    assertTrue(
                        Regex(
                                """\{\s*"name"\s*:\s*".*"\s*,\s*"age"\s*:\s*\d{1,2}\s*,\s*"tag"\s*:\s*("ä😀"|"b"|"\\\\.*")\s*}"""
                            )
                            .matches(text),
                        text,
                    )
                }
            }
            session.model.jsonGrammar(null).close()
            Tests.fails(Status.INVALID_ARGUMENT, "nonsense") {
                session.model.jsonGrammar("""{"type":"nonsense"}""")
            }
            Tests.fails(Status.INVALID_ARGUMENT, "line 3") {
                session.model.grammar("root ::= \"a\"\nb ::= (\n")
            }
            val grammar = session.model.grammar("root ::= \"ab\"")
            grammar.close()
            assertFailsWith<IllegalStateException> {
                session.generate("x", GenerateOptions(grammar = grammar)).text()
            }
        }
}
