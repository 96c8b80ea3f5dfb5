package org.runnel

import java.nio.ByteBuffer
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertTrue
import kotlinx.coroutines.flow.toList
import org.junit.jupiter.api.Test

/** The stream as a value, for each kind of state. */
class StreamTest {
    private val kinds = listOf("llama", "gemma3", "griffin")

    @Test
    fun `saved and restored in another session it goes on as if nothing had happened`() {
        for (model in kinds) {
            val file = Tests.path("$model 😀.state")
            val expected =
                Tests.with(model, SessionOptions(context = 512)) { session ->
                    session.generate(Tests.PROMPT, Tests.drawn(10)).text()
                    session.save(file)
                    session.generate("", Tests.drawn(20)).text()
                }
            assertTrue(file.length() > 0)
            Tests.with(model, SessionOptions(context = 512)) { session ->
                session.restore(file)
                assertEquals(expected, session.generate("", Tests.drawn(20)).text(), model)
                assertEquals(session.stats().position, session.position())
            }
            Tests.with(model) { session ->
                val saved = Session.saved(file)
                assertEquals(512, saved.options.context)
                assertEquals(64, saved.options.rollbackWindow)
                assertTrue(saved.position > 10)
                if (model != "griffin") session.restore(file)
            }
        }
    }

    @Test
    fun `a snapshot brings the stream back`() {
        for (model in kinds) Tests.with(model, SessionOptions(context = 512)) { session ->
            session.generate(Tests.PROMPT, Tests.drawn(10)).text()
            val snapshot = session.snapshot()
            val expected = session.generate("", Tests.drawn(20)).text()
            session.reset()
            assertEquals(0, session.position())
            session.restore(snapshot)
            assertEquals(expected, session.generate("", Tests.drawn(20)).text(), model)
            Tests.fails(Status.STATE_MISMATCH) {
                session.restore(snapshot.duplicate().apply { limit(limit() / 2) })
            }
        }
    }

    @Test
    fun `rollback takes tokens back`() {
        for (model in kinds) Tests.with(model, SessionOptions(context = 512)) { session ->
            val ids = session.model.tokenize(Tests.PROMPT)
            session.generateTokens(ids, Tests.tokens(1)).toList()
            val next = IntArray(3) { 50 + it }
            val first = session.generateTokens(next, Tests.tokens(8)).toList().map { it.id }
            session.rollback(session.position() - ids.size - 1)
            assertEquals(
                first,
                session.generateTokens(next, Tests.tokens(8)).toList().map { it.id },
                model,
            )
            assertEquals(session.position(), session.stats().position)
            Tests.fails(Status.ROLLBACK_RANGE, "rollback_window is 64") {
                session.generateTokens(IntArray(80) { 40 }, Tests.tokens(1)).toList()
                session.rollback(65)
            }
        }
    }

    @Test
    fun `a fork has the same contents`() {
        for (model in kinds) Tests.with(model, SessionOptions(context = 512)) { session ->
            session.generate(Tests.PROMPT, Tests.drawn(10)).text()
            session.fork().use { copy ->
                val expected = session.generate("", Tests.drawn(20)).text()
                session.close() // neither needs the other
                assertEquals(expected, copy.generate("", Tests.drawn(20)).text(), model)
            }
        }
    }

    @Test
    fun `what is no stream of this model is refused`(): Unit =
        Tests.with("llama") { session ->
            session.generate("x", Tests.tokens(3)).text()
            val file = Tests.path("llama.state")
            session.save(file)
            Tests.fails(Status.STATE_MISMATCH) { Tests.with("gemma3") { it.restore(file) } }
            val bytes = file.readBytes()
            bytes[bytes.size / 2] = (bytes[bytes.size / 2] + 1).toByte()
            file.writeBytes(bytes)
            Tests.fails(Status.STATE_MISMATCH) { session.restore(file) }
            assertEquals(session.model.tokenize("x").size + 2L, session.position())
            assertFailsWith<IllegalArgumentException> { session.restore(ByteBuffer.allocate(100)) }
        }

    @Test
    fun `trim gives memory back and keeps the stream`() {
        for (model in kinds) Tests.with(model, SessionOptions(context = 4096, chunk = 2048)) {
            session ->
            val ids = IntArray(2048) { 40 + it % 50 }
            session.generateTokens(ids, Tests.tokens(1)).toList()
            session.fork().use { other ->
                val before = Tests.proc("smaps_rollup", "Anonymous:")
                session.trim()
                val given = before - Tests.proc("smaps_rollup", "Anonymous:")
                assertTrue(
                    given * 1024 > session.memory.arena / 2,
                    "$model: $given KiB of ${session.memory.arena / 1024}",
                )
                assertEquals(2048, session.position())
                assertEquals(
                    other.generate("", Tests.drawn(20)).text(),
                    session.generate("", Tests.drawn(20)).text(),
                    model,
                )
            }
        }
    }
}
