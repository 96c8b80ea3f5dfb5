package org.runnel

import java.nio.channels.FileChannel
import java.nio.file.StandardOpenOption
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertTrue
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.async
import kotlinx.coroutines.awaitAll
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.runBlocking
import org.junit.jupiter.api.Test

class LifetimeTest {
    private fun once(i: Int) = runBlocking {
        Model.open(Tests.engine, Tests.file(if (i % 2 == 0) "llama" else "griffin")).use { model ->
            model.session(SessionOptions(context = 256, chunk = 32)).use { session ->
                assertEquals(
                    1,
                    session
                        .generateTokens(intArrayOf(1, 40 + i % 50), Tests.tokens(1))
                        .toList()
                        .size,
                )
            }
        }
    }

    /**
     * The JVM's heap is touched as a whole from the start (host/pom.xml): what grows here is
     * native.
     */
    @Test
    fun `ten thousand models and sessions leave nothing behind`() {
        repeat(2000) { once(it) }
        val threads = Tests.proc("status", "Threads:")
        // What is lost each time is lost in most rounds; the JVM's compilers take or give some
        // megabytes in one of them.
        val grown =
            List(5) {
                val before = Tests.proc("smaps_rollup", "Anonymous:")
                repeat(2000, ::once)
                Tests.proc("smaps_rollup", "Anonymous:") - before
            }
        println(
            "10,000 times open and close: anonymous memory grew by $grown KiB, threads by ${Tests.proc("status", "Threads:") - threads}"
        )
        assertTrue(grown.sorted()[2] < 1024, "$grown KiB")
        assertTrue(Tests.proc("status", "Threads:") - threads < 10)
    }

    @Test
    fun `what nobody closed is freed when nobody reaches it`() {
        fun leak(): Unit =
            runBlocking<Unit> {
                val model = Model.open(Engine(1), Tests.file("llama"))
                model
                    .session(SessionOptions(context = 8192, kv = DType.F32))
                    .generateTokens(IntArray(2000) { 40 }, Tests.tokens(1))
                    .toList()
                model.grammar("root ::= \"a\"")
            }
        leak()
        fun anonymous(): Long {
            repeat(10) {
                System.gc()
                Thread.sleep(30)
            }
            return Tests.proc("smaps_rollup", "Anonymous:")
        }
        val before = anonymous()
        repeat(20) { leak() }
        assertTrue(anonymous() - before < 20 * 1024, "each of 20 sessions has more than 1 MiB")
    }

    @Test
    fun `closed objects say so`(): Unit =
        runBlocking<Unit> {
            val engine = Engine(1)
            assertEquals(1, engine.threads)
            val model = Model.open(engine, Tests.file("llama"))
            val session = model.session()
            engine.close()
            engine.close()
            assertFailsWith<IllegalStateException> { engine.threads }
            assertFailsWith<IllegalStateException> { Model.open(engine, Tests.file("llama")) }
            model.close()
            model.close()
            assertTrue(
                "model is closed" in
                    assertFailsWith<IllegalStateException> { model.tokenize("x") }.message!!
            )
            assertFailsWith<IllegalStateException> { model.session() }
            assertFailsWith<IllegalStateException> { model.info }
            // The session needs neither.
            assertEquals(
                3,
                session.generateTokens(intArrayOf(1, 40), Tests.tokens(3)).toList().size,
            )
            session.close()
            session.close()
            val calls =
                listOf<suspend () -> Unit>(
                    { session.generateTokens(intArrayOf(1), Tests.tokens(1)).toList() },
                    { session.position() },
                    { session.stats() },
                    { session.reset() },
                    { session.rollback(1) },
                    { session.snapshot() },
                    { session.save(Tests.path("none")) },
                    { session.restore(Tests.path("none")) },
                    { session.fork() },
                    { session.trim() },
                    { session.recover() },
                    { session.backend() },
                    { session.setTopLogits(1) },
                    { session.chat(listOf(Message("user", "x"))).toList() },
                    { session.embed(intArrayOf(1)) },
                    { session.run(emptyList(), emptyList()) },
                )
            for ((i, call) in calls.withIndex()) assertTrue(
                "session is closed" in
                    assertFailsWith<IllegalStateException>("call $i") { call() }.message!!
            )
            session.cancel()
            session.trim(TrimLevel.COMPLETE)
        }

    @Test
    fun `many threads open, use and close one model`(): Unit =
        runBlocking<Unit> {
            repeat(20) {
                val model = Model.open(Tests.engine, Tests.file("gemma3"))
                val texts =
                    List(8) { i ->
                            async(Dispatchers.Default) {
                                if (i == 7) model.close() // at any moment for the others
                                runCatching {
                                    model.session(SessionOptions(context = 256)).use {
                                        it.generate("Hello 😀", Tests.tokens(5)).text()
                                    }
                                }
                            }
                        }
                        .awaitAll()
                for (e in texts.mapNotNull { it.exceptionOrNull() }) assertTrue(
                    e is IllegalStateException,
                    "$e",
                )
                assertTrue(texts.mapNotNull { it.getOrNull() }.toSet().size <= 1)
            }
        }

    @Test
    fun `a mapped buffer lives as long as what reads it`(): Unit =
        runBlocking<Unit> {
            fun map() =
                FileChannel.open(Tests.file("llama").toPath(), StandardOpenOption.READ).use {
                    it.map(FileChannel.MapMode.READ_ONLY, 0, it.size())
                }
            val expected =
                Tests.with("llama") { it.generate(Tests.PROMPT, Tests.tokens(10)).text() }
            val session = Model.open(Tests.engine, map()).use { it.session() }
            repeat(5) {
                System.gc()
                Thread.sleep(20)
            }
            assertEquals(0, session.position())
            assertEquals(
                expected,
                session
                    .generateTokens(
                        Tests.with("llama") { it.model.tokenize(Tests.PROMPT) },
                        Tests.tokens(10),
                    )
                    .toList()
                    .joinToString("") { it.text },
            )
            session.close()
            Tests.fails(Status.INVALID_ARGUMENT, "align") {
                Model.open(Tests.engine, map().apply { position(4) }).close()
            }
            assertFailsWith<IllegalArgumentException> {
                Model.open(Tests.engine, java.nio.ByteBuffer.allocate(100))
            }
        }
}
