package org.runnel

import kotlin.test.assertEquals
import kotlin.test.assertFalse
import kotlin.test.assertNotEquals
import kotlin.test.assertTrue
import kotlinx.coroutines.flow.take
import kotlinx.coroutines.flow.toList
import org.junit.jupiter.api.Test

class GenerateTest {
    @Test
    fun `the text is that of the command line`() {
        for (model in listOf("llama", "gemma3", "griffin")) {
            val said =
                Tests.runnel(
                    "run",
                    Tests.file(model).path,
                    "-p",
                    Tests.PROMPT,
                    "-n",
                    "40",
                    "--temp",
                    "0",
                    "--context",
                    "512",
                )
            Tests.with(model, SessionOptions(context = 512)) { session ->
                val text = session.generate(Tests.PROMPT, GenerateOptions(maxTokens = 40)).text()
                assertEquals(said, text + "\n", model)
                assertTrue(text.isNotEmpty(), model)
            }
        }
    }

    @Test
    fun `draws depend on the seed alone`(): Unit =
        Tests.with("llama") { session ->
            val texts =
                listOf(7L, 7L, 8L).map { seed ->
                    session.reset()
                    session
                        .generate(
                            Tests.PROMPT,
                            Tests.tokens(30)
                                .copy(sampling = Sampling(temperature = 1f, seed = seed)),
                        )
                        .text()
                }
            assertEquals(texts[0], texts[1])
            assertNotEquals(texts[0], texts[2])
        }

    @Test
    fun `tokens come with their probabilities`(): Unit =
        Tests.with("llama") { session ->
            val ids = session.model.tokenize(Tests.PROMPT)
            val tokens = session.generateTokens(ids, Tests.tokens(6).copy(logprobs = 5)).toList()
            assertEquals(6, tokens.size)
            for (t in tokens) {
                assertEquals(5, t.best.size)
                assertEquals(Logprob(t.id, t.logprob), t.best[0]) // greedy
                assertTrue(
                    t.best.zipWithNext().all { (a, b) -> a.logprob >= b.logprob } && t.logprob < 0
                )
            }
            assertEquals(ids.size + 5L, session.position()) // the last token is pending
            assertTrue(
                session.generateTokens(IntArray(0), Tests.tokens(1)).toList()[0].logprob.isNaN()
            )
        }

    @Test
    fun `biases, stops and a callback's no end or change an answer`(): Unit =
        Tests.with("llama") { session ->
            val all =
                session
                    .generateTokens(session.model.tokenize(Tests.PROMPT), Tests.tokens(12))
                    .toList()
            session.reset()
            val forbidden =
                GenerateOptions(
                    maxTokens = 12,
                    ignoreEnd = true,
                    sampling = Sampling(bias = mapOf(all[0].id to Float.NEGATIVE_INFINITY)),
                )
            assertNotEquals(
                all[0].id,
                session
                    .generateTokens(session.model.tokenize(Tests.PROMPT), forbidden)
                    .toList()[0]
                    .id,
            )
            session.reset()
            val seen = mutableListOf<Int>()
            val some =
                session
                    .generateTokens(
                        session.model.tokenize(Tests.PROMPT),
                        Tests.tokens(12)
                            .copy(
                                onToken = {
                                    seen += it.id
                                    seen.size < 4
                                }
                            ),
                    )
                    .toList()
            assertEquals(all.take(4).map { it.id }, some.map { it.id })
            assertEquals(seen, some.map { it.id })
            session.reset()
            val text = all.joinToString("") { it.text }
            val stop = text.substring(text.length / 2, text.length / 2 + 2)
            assertEquals(
                text.substringBefore(stop),
                session.generate(Tests.PROMPT, Tests.tokens(12).copy(stop = listOf(stop))).text(),
            )
        }

    @Test
    fun `an answer goes on where it was cut off`(): Unit =
        Tests.with("gemma3") { session ->
            val whole = session.generate(Tests.PROMPT, Tests.tokens(20)).text()
            session.reset()
            assertEquals(
                whole,
                session.generate(Tests.PROMPT, Tests.tokens(9)).text() +
                    session.generate("", Tests.tokens(11)).text(),
            )
        }

    @Test
    fun `a collector that stops cancels`(): Unit =
        Tests.with("griffin") { session ->
            assertEquals(
                3,
                session
                    .generate(Tests.PROMPT, Tests.tokens(Long.MAX_VALUE / 2))
                    .take(3)
                    .toList()
                    .size,
            )
            assertTrue(session.generate("", Tests.tokens(5)).text().isNotEmpty())
        }

    @Test
    fun `progress of a long prompt`(): Unit =
        Tests.with("llama", SessionOptions(chunk = 16)) { session ->
            val ids = IntArray(100) { 40 + it % 50 }
            val seen = mutableListOf<Pair<Long, Long>>()
            session
                .generateTokens(
                    ids,
                    Tests.tokens(1).copy(onProgress = { done, total -> seen.add(done to total) }),
                )
                .toList()
            assertTrue(
                seen.size >= 6 &&
                    seen.all { it.second == 100L } &&
                    seen.zipWithNext().all { (a, b) -> a.first < b.first },
                "$seen",
            )
            Tests.fails(Status.CANCELLED) {
                session
                    .generateTokens(ids, Tests.tokens(1).copy(onProgress = { _, _ -> false }))
                    .toList()
            }
        }

    @Test
    fun `an exception of a callback ends the call and comes out`(): Unit =
        Tests.with("llama", SessionOptions(chunk = 8)) { session ->
            class Mine : RuntimeException("mine 😀")
            for (options in
                listOf(
                    Tests.tokens(50).copy(onToken = { throw Mine() }),
                    Tests.tokens(50).copy(onProgress = { _, _ -> throw Mine() }),
                )) assertEquals(
                "mine 😀",
                runCatching { session.generate(Tests.PROMPT, options).text() }
                    .exceptionOrNull()
                    ?.message,
            )
            assertFalse(session.generate(Tests.PROMPT, Tests.tokens(5)).text().isEmpty())
        }

    @Test
    fun `embeddings are normalised and pooled`(): Unit =
        Tests.with("llama") { session ->
            val a = session.embed("Grüße 😀")
            assertEquals(session.model.info.embedding, a.size)
            assertEquals(1f, a.fold(0f) { sum, x -> sum + x * x }, 1e-4f)
            assertEquals(
                a.toList(),
                session.embed(session.model.tokenize("Grüße 😀"), Pooling.LAST, true).toList(),
            )
            assertNotEquals(a.toList(), session.embed("Grüße 😀", Pooling.MEAN).toList())
            assertTrue(
                session.embed("Grüße 😀", normalise = false).fold(0f) { sum, x -> sum + x * x } >
                    1.01f
            )
        }
}
