package org.runnel

import kotlin.concurrent.thread
import kotlin.random.Random
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertTrue
import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.CompletableDeferred
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.async
import kotlinx.coroutines.awaitAll
import kotlinx.coroutines.cancelAndJoin
import kotlinx.coroutines.coroutineScope
import kotlinx.coroutines.delay
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.launch
import kotlinx.coroutines.supervisorScope
import kotlinx.coroutines.withContext
import kotlinx.coroutines.withTimeout
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.Timeout

/** The endless answers here end by a cancel or never. */
@Timeout(60)
class CancelTest {
    private val endless = GenerateOptions(maxTokens = Long.MAX_VALUE / 2, ignoreEnd = true)

    @Test
    fun `a cancelled coroutine ends its call and the stream goes on`(): Unit =
        Tests.with("griffin") { session ->
            coroutineScope {
                val began = CompletableDeferred<Unit>()
                val job =
                    launch(Dispatchers.Default) {
                        session.generate(Tests.PROMPT, endless).collect { began.complete(Unit) }
                    }
                began.await()
                job.cancelAndJoin()
            }
            val position = session.position()
            assertTrue(session.generate("", Tests.tokens(5)).text().isNotEmpty())
            assertEquals(position + 5, session.position())
        }

    @Test
    fun `cancel from another thread is a status`(): Unit =
        Tests.with("griffin") { session ->
            Tests.fails(Status.CANCELLED) {
                session
                    .generate(
                        Tests.PROMPT,
                        endless.copy(
                            onToken = {
                                thread { session.cancel() }
                                true
                            }
                        ),
                    )
                    .text()
            }
            session.cancel() // none runs: of no effect on the next one
            assertTrue(session.generate("", Tests.tokens(5)).text().isNotEmpty())
        }

    @Test
    fun `cancels at any time never reach another call`(): Unit =
        Tests.with("griffin") { session ->
            val random = Random(5)
            repeat(300) { i ->
                coroutineScope {
                    val job =
                        launch(Dispatchers.Default) {
                            session.generate("x", endless.copy(maxTokens = 20)).collect {}
                        }
                    val end = System.nanoTime() + random.nextLong(2_000_000)
                    while (System.nanoTime() < end) Thread.onSpinWait()
                    job.cancel()
                }
                assertEquals(
                    2,
                    session.generateTokens(intArrayOf(40), Tests.tokens(2)).toList().size,
                    "round $i",
                )
            }
        }

    @Test
    fun `calls that wait are dropped when nobody wants them`(): Unit =
        Tests.with("griffin") { session ->
            coroutineScope {
                val began = CompletableDeferred<Unit>()
                val first =
                    launch(Dispatchers.Default) {
                        session.generate(Tests.PROMPT, endless).collect { began.complete(Unit) }
                    }
                began.await()
                val second =
                    launch(Dispatchers.Default) { session.generate("never", endless).collect {} }
                delay(20)
                second.cancelAndJoin() // at once, though the first one runs
                assertTrue(first.isActive)
                first.cancelAndJoin()
            }
        }

    @Test
    fun `close during generation cancels, waits and frees`(): Unit =
        Tests.with("griffin") { session ->
            supervisorScope {
                val began = CompletableDeferred<Unit>()
                val running =
                    async(Dispatchers.Default) {
                        session.generate(Tests.PROMPT, endless).collect { began.complete(Unit) }
                    }
                began.await()
                val waiting = async(Dispatchers.Default) { session.position() }
                delay(20)
                withContext(Dispatchers.IO) { session.close() }
                assertEquals(
                    Status.CANCELLED,
                    assertFailsWith<RunnelException> { running.await() }.status,
                )
                assertFailsWith<IllegalStateException> { waiting.await() }
                    .let { assertTrue(it !is CancellationException) }
            }
            assertFailsWith<IllegalStateException> { session.position() }
            session.close()
        }

    @Test
    fun `close from a callback of the call`(): Unit =
        Tests.with("griffin") { session ->
            Tests.fails(Status.CANCELLED) {
                session
                    .generate(
                        Tests.PROMPT,
                        endless.copy(
                            onToken = {
                                session.close()
                                true
                            }
                        ),
                    )
                    .text()
            }
            assertFailsWith<IllegalStateException> { session.position() }
        }

    @Test
    fun `close at any time`() {
        val random = Random(6)
        repeat(100) {
            Tests.with("griffin") { session ->
                supervisorScope {
                    val calls =
                        List(4) {
                            async(Dispatchers.Default) { session.generate("x", endless).collect {} }
                        }
                    delay(random.nextLong(3))
                    withContext(Dispatchers.IO) { session.close() }
                    for (call in calls) assertFailsWith<RuntimeException> {
                        withTimeout(10_000) { call.await() }
                    }
                }
            }
        }
    }

    @Test
    fun `a collector on the session's own thread may call it`(): Unit =
        Tests.with("griffin") { session ->
            withContext(Dispatchers.Unconfined) {
                val positions = mutableListOf<Long>()
                session.generate("x", Tests.tokens(10)).collect { positions += session.position() }
                assertTrue(positions.isNotEmpty())
            }
        }

    @Test
    fun `calls from many threads wait for each other`(): Unit =
        Tests.with("llama") { session ->
            coroutineScope {
                List(16) { i ->
                        async(Dispatchers.Default) {
                            session.generateTokens(intArrayOf(40 + i), Tests.tokens(4)).collect {}
                        }
                    }
                    .awaitAll()
            }
            assertEquals(16 * 5L - 1, session.position())
            assertEquals(16 * 5L - 1, session.stats().tokens)
        }
}
