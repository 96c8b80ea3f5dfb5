package org.runnel

import java.io.File
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertFalse
import kotlin.test.assertTrue
import kotlin.time.measureTimedValue
import kotlinx.coroutines.CompletableDeferred
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.async
import kotlinx.coroutines.coroutineScope
import kotlinx.coroutines.joinAll
import kotlinx.coroutines.launch
import kotlinx.coroutines.supervisorScope
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.Timeout

/** An app's life: it leaves the screen, its process ends, it comes back. */
@Timeout(60)
class SessionKeeperTest {
    private val never: (Exception) -> Unit = { throw AssertionError("not expected", it) }

    private fun fresh(name: String) = Tests.path(name).apply { delete() }

    @Test
    fun `the stream goes on in the next process`() {
        for (model in listOf("llama", "griffin")) {
            val file = fresh("$model.kept")
            val expected =
                Tests.with(model) { session ->
                    val keeper = SessionKeeper(session, file, scope(), never)
                    assertEquals(0, keeper.restore())
                    session.generate(Tests.PROMPT, Tests.drawn(10)).text()
                    keeper.onStop().join()
                    session.generate("", Tests.drawn(20)).text()
                }
            Tests.with(model) { session ->
                val (position, time) =
                    measureTimedValue { SessionKeeper(session, file, scope(), never).restore() }
                println("$model: ${file.length()} bytes restored in $time")
                assertTrue(position > 10)
                assertEquals(expected, session.generate("", Tests.drawn(20)).text(), model)
            }
        }
    }

    private fun scope() = CoroutineScope(Dispatchers.Default)

    @Test
    fun `an answer under way stops at a token, is saved and goes on`() {
        val file = fresh("running.kept")
        var text = ""
        var tokens = 0L
        Tests.with("griffin") { session ->
            val keeper = SessionKeeper(session, file, scope(), never)
            supervisorScope {
                val began = CompletableDeferred<Unit>()
                val answer =
                    async(Dispatchers.Default) {
                        session
                            .generateTokens(
                                session.model.tokenize(Tests.PROMPT),
                                Tests.tokens(Long.MAX_VALUE / 2)
                                    .copy(
                                        onToken = {
                                            text += it.text
                                            ++tokens < Long.MAX_VALUE
                                        }
                                    ),
                            )
                            .collect { began.complete(Unit) }
                    }
                began.await()
                keeper.onStop().join()
                assertEquals(
                    Status.CANCELLED,
                    assertFailsWith<RunnelException> { answer.await() }.status,
                )
            }
        }
        Tests.with("griffin") { session ->
            SessionKeeper(session, file, scope(), never).restore()
            text += session.generate("", Tests.tokens(5)).text()
        }
        assertEquals(
            Tests.with("griffin") { it.generate(Tests.PROMPT, Tests.tokens(tokens + 5)).text() },
            text,
        )
    }

    @Test
    fun `saves only what has changed, and nothing of an empty stream`(): Unit =
        Tests.with("llama") { session ->
            val file = fresh("changes.kept")
            val keeper = SessionKeeper(session, file, scope(), never)
            keeper.save()
            assertFalse(file.exists())
            session.generate("x", Tests.tokens(3)).text()
            keeper.save()
            file.setLastModified(1000)
            keeper.save()
            assertEquals(1000, file.lastModified())
            session.rollback(1)
            keeper.save()
            assertTrue(file.lastModified() > 1000)
            session.reset()
            keeper.save()
            assertFalse(file.exists())
        }

    @Test
    fun `what does not fit is removed`() {
        val file = fresh("foreign.kept")
        Tests.with("gemma3") { session ->
            session.generate("x", Tests.tokens(3)).text()
            session.save(file)
        }
        Tests.with("llama") { session ->
            assertEquals(0, SessionKeeper(session, file, scope(), never).restore())
            assertFalse(file.exists())
            file.writeText("no stream")
            assertEquals(0, SessionKeeper(session, file, scope(), never).restore())
            assertFalse(file.exists())
        }
    }

    @Test
    fun `levels of memory`(): Unit =
        Tests.with("llama", SessionOptions(context = 4096, chunk = 2048)) { session ->
            session.generateTokens(IntArray(2048) { 40 }, Tests.tokens(1)).collect {}
            val keeper = SessionKeeper(session, fresh("levels.kept"), scope(), never)
            for (level in listOf(TrimLevel.UI_HIDDEN, TrimLevel.RUNNING_MODERATE)) assertFalse(
                keeper.onTrimMemory(level)
            )
            val before = Tests.proc("smaps_rollup", "Anonymous:")
            for (level in
                listOf(
                    TrimLevel.RUNNING_LOW,
                    TrimLevel.RUNNING_CRITICAL,
                    TrimLevel.BACKGROUND,
                    TrimLevel.MODERATE,
                    TrimLevel.COMPLETE,
                )) assertTrue(keeper.onTrimMemory(level))
            assertEquals(2048, session.position())
            val given = before - Tests.proc("smaps_rollup", "Anonymous:")
            assertTrue(
                given * 1024 > session.memory.arena / 2,
                "$given KiB of ${session.memory.arena / 1024}",
            )
            coroutineScope { // while an answer is under way it waits, and changes nothing
                val texts =
                    List(2) { i ->
                        async {
                            session.fork().use { copy ->
                                copy
                                    .generate(
                                        "",
                                        Tests.tokens(50)
                                            .copy(
                                                onToken = {
                                                    if (i == 1) copy.trim(TrimLevel.COMPLETE)
                                                    true
                                                }
                                            ),
                                    )
                                    .text()
                            }
                        }
                    }
                assertEquals(texts[0].await(), texts[1].await())
            }
        }

    @Test
    fun `close saves, and failures are heard`() {
        val file = fresh("closed.kept")
        Tests.with("llama") { session ->
            session.generate("x", Tests.tokens(3)).text()
            val keeper = SessionKeeper(session, file, scope(), never)
            List(4) { launchStop(keeper) }.joinAll()
            keeper.close()
            assertTrue(file.exists())
            assertFailsWith<IllegalStateException> { session.position() }
            val heard = mutableListOf<Exception>()
            SessionKeeper(session, file, scope(), heard::add).onStop().join()
            assertTrue(heard.single() is IllegalStateException)
        }
        Tests.with("llama") { session ->
            session.generate("x", Tests.tokens(3)).text()
            val heard = mutableListOf<Exception>()
            SessionKeeper(session, File("/no/such/folder/x"), scope(), heard::add).onStop().join()
            assertEquals(Status.IO, (heard.single() as RunnelException).status)
        }
    }

    private fun launchStop(keeper: SessionKeeper) = scope().launch { keeper.onStop().join() }
}
