package org.runnel

import java.io.File
import java.nio.file.Files
import kotlin.test.assertEquals
import kotlin.test.assertTrue
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.runBlocking
import org.junit.jupiter.api.assertThrows

/** What the tests share: real models, made by host/models.py, and an engine of two threads. */
object Tests {
    val engine = Engine(2)
    val folder: File = Files.createTempDirectory("runnel-jvm-").toFile().apply { deleteOnExit() }

    /**
     * llama: attention, context 8192. gemma3: windows. griffin: recurrent and windows, its stream
     * has no end. gla: tensors.
     */
    fun file(model: String) = File(System.getProperty("runnel.models"), "$model.rnl")

    fun <T> with(
        model: String,
        options: SessionOptions = SessionOptions(),
        block: suspend (Session) -> T,
    ): T = runBlocking {
        Model.open(engine, file(model)).use { m -> m.session(options).use { block(it) } }
    }

    fun path(name: String) = File(folder, name).apply { deleteOnExit() }

    fun runnel(vararg arguments: String): String {
        val process =
            ProcessBuilder(File(System.getProperty("runnel.bin"), "runnel").path, *arguments)
                .redirectError(ProcessBuilder.Redirect.INHERIT)
                .start()
        val out = process.inputStream.readBytes().decodeToString()
        assertEquals(0, process.waitFor(), "runnel ${arguments.joinToString(" ")}")
        return out
    }

    /** A line of a file of /proc/self, such as "Anonymous:", in KiB or as a count. */
    fun proc(file: String, key: String): Long =
        File("/proc/self/$file")
            .readLines()
            .first { it.startsWith(key) }
            .filter(Char::isDigit)
            .toLong()

    fun fails(status: Status, vararg says: String, block: suspend () -> Unit) {
        val e = assertThrows<RunnelException> { runBlocking { block() } }
        assertEquals(status, e.status, e.message)
        for (part in says) assertTrue(part in e.message!!, e.message)
    }

    /** The text that a model continues a prompt with. */
    const val PROMPT = "Grüße, 你好 😀! The cat"

    fun tokens(n: Long) = GenerateOptions(maxTokens = n, ignoreEnd = true)

    fun drawn(n: Long) =
        tokens(n).copy(sampling = Sampling(temperature = 0.8f, topK = 20, seed = 7))
}

suspend fun Flow<String>.text(): String = toList().joinToString("")
