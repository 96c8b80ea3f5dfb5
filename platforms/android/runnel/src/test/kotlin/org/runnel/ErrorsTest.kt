package org.runnel

import java.io.File
import kotlin.test.assertEquals
import kotlin.test.assertTrue
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.runBlocking
import org.junit.jupiter.api.Test

/** Failures have the library's status and message. */
class ErrorsTest {
    @Test
    fun `files that are no models`() {
        Tests.fails(Status.NOT_FOUND, "nicht da 😀.rnl") {
            Model.open(Tests.engine, File(Tests.folder, "nicht da 😀.rnl"))
        }
        val damaged =
            Tests.path("damaged.rnl").apply {
                writeBytes(Tests.file("llama").readBytes().copyOf(3000))
            }
        Tests.fails(Status.INVALID_MODEL, "damaged.rnl") { Model.open(Tests.engine, damaged) }
        val other =
            Tests.path("other.rnl").apply {
                writeBytes(
                    Tests.file("llama").readBytes().also {
                        it[it.size - 100] = (it[it.size - 100] + 1).toByte()
                    }
                )
            }
        Tests.fails(Status.INVALID_MODEL) { Model.open(Tests.engine, other).use { it.verify() } }
        runBlocking {
            Model.open(Tests.engine, Tests.file("llama"), copy = true).use { it.verify() }
        }
        Tests.fails(Status.NOT_FOUND, "none.rnl") {
            Model.open(Tests.engine, Tests.file("llama"), adapter = File("none.rnl"))
        }
        Tests.fails(Status.INVALID_ARGUMENT, "threads") { Engine(-1) }
    }

    @Test
    fun `options that cannot be`(): Unit =
        Tests.with("llama") { session ->
            val model = session.model
            Tests.fails(Status.INVALID_ARGUMENT, "rollback_window") {
                model.session(SessionOptions(rollbackWindow = -2))
            }
            Tests.fails(Status.BUDGET_EXCEEDED) {
                model.session(SessionOptions(budgetBytes = 1000))
            }
            Tests.fails(Status.INVALID_ARGUMENT) { model.plan(SessionOptions(kv = DType.I64)) }
            Tests.fails(Status.INVALID_ARGUMENT) {
                session.generateTokens(intArrayOf(1), GenerateOptions(logprobs = 1000)).toList()
            }
            Tests.fails(Status.INVALID_ARGUMENT) {
                session.generateTokens(intArrayOf(-5), Tests.tokens(1)).toList()
            }
            Tests.fails(Status.INVALID_ARGUMENT) {
                session
                    .generateTokens(
                        intArrayOf(1),
                        GenerateOptions(sampling = Sampling(temperature = -1f)),
                    )
                    .toList()
            }
            assertEquals(0, session.position())
            Tests.fails(Status.CONTEXT_FULL) {
                model.session(SessionOptions(context = 64)).use {
                    it.generateTokens(IntArray(65) { 40 }, Tests.tokens(1)).toList()
                }
            }
            Tests.fails(Status.NOT_FOUND) { session.restore(Tests.path("nothing")) }
            Tests.fails(Status.NOT_FOUND, "nothing") { Session.saved(Tests.path("nothing")) }
            Tests.fails(Status.IO) { session.save(File("/no/such/folder/x")) }
            Tests.fails(Status.UNSUPPORTED) { Tests.with("gla") { it.embed(intArrayOf(1)) } }
            Tests.fails(Status.NOT_FOUND, "no tokenizer") {
                Tests.with("gla") { it.model.tokenize("x") }
            }
        }

    @Test
    fun `plans are what sessions have`(): Unit =
        Tests.with("llama", SessionOptions(context = 1024, kv = DType.F16)) { session ->
            val plan = session.model.plan(SessionOptions(context = 1024, kv = DType.F16))
            assertEquals(plan, session.memory)
            assertTrue(plan.state < session.model.plan(SessionOptions(context = 2048)).state)
            assertTrue(plan.anonymous in 1 until 100_000_000 && plan.weights > 0)
            assertEquals("", session.backend().device)
            session.recover()
            val info = session.model.info
            assertTrue(
                info.hasChat &&
                    info.vocabulary == 613 &&
                    info.context == 8192L &&
                    info.fileBytes == Tests.file("llama").length(),
                "$info",
            )
            assertTrue(
                Regex("""\d+\.\d+\.\d+""").matches(Runnel.version) &&
                    Runnel.formatVersion.startsWith("${info.formatMajor}.")
            )
            val lines = runCatching { Runnel.vulkanDevices() }
            lines
                .onFailure {
                    assertTrue(
                        (it as RunnelException).status in
                            listOf(Status.UNSUPPORTED, Status.NOT_FOUND)
                    )
                }
                .onSuccess { assertTrue(it.isNotEmpty()) }
        }

    @Test
    fun `notices come to the log`() {
        val said = mutableListOf<String>()
        Runnel.log = { isWarning, message -> said += "$isWarning $message" }
        try {
            Native.onLog(1, "wörk-around 😀".toByteArray())
            assertEquals(listOf("true wörk-around 😀"), said)
        } finally {
            Runnel.log = null
        }
        Native.onLog(0, ByteArray(0))
    }
}
