package org.runnel

import com.sun.net.httpserver.HttpExchange
import com.sun.net.httpserver.HttpServer
import java.io.File
import java.io.IOException
import java.net.InetSocketAddress
import java.net.URL
import java.security.MessageDigest
import java.util.concurrent.Executors
import kotlin.random.Random
import kotlin.test.assertContentEquals
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertFalse
import kotlin.test.assertTrue
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.cancelAndJoin
import kotlinx.coroutines.delay
import kotlinx.coroutines.launch
import kotlinx.coroutines.runBlocking
import org.junit.jupiter.api.AfterEach
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.Timeout

/**
 * Downloads from a server on this machine that breaks off, forgets ranges and gives wrong bytes.
 */
@Timeout(60)
class ModelFileTest {
    private val content = Random(3).nextBytes(1_000_000)
    private val sha256 =
        MessageDigest.getInstance("SHA-256").digest(content).joinToString("") { "%02x".format(it) }
    private val asked = mutableListOf<String?>() // Range of each request

    /** Bytes that are sent before the connection breaks, by request; null: all. */
    private var breaks: MutableList<Int?> = mutableListOf()
    private var knowsRanges = true
    private var body = content
    private var status = 0

    private val pool = Executors.newCachedThreadPool()
    private val server =
        HttpServer.create(InetSocketAddress("127.0.0.1", 0), 0).apply {
            executor = pool
            createContext("/model.rnl") { answer(it) }
            start()
        }

    @AfterEach
    fun stop() {
        server.stop(0)
        pool.shutdownNow()
    }

    private fun answer(exchange: HttpExchange) {
        val range = exchange.requestHeaders.getFirst("Range")
        asked += range
        val begin =
            if (knowsRanges && range != null) range.removePrefix("bytes=").removeSuffix("-").toInt()
            else 0
        if (begin > 0)
            exchange.responseHeaders.add(
                "Content-Range",
                "bytes $begin-${body.size - 1}/${body.size}",
            )
        val code = if (status != 0) status else if (begin > 0) 206 else 200
        exchange.sendResponseHeaders(code, (body.size - begin).toLong())
        val most = if (breaks.isEmpty()) null else breaks.removeAt(0)
        exchange.responseBody.write(body, begin, minOf(most ?: Int.MAX_VALUE, body.size - begin))
        exchange.responseBody.flush()
        exchange.close() // before the promised end where it breaks
    }

    private fun model(
        name: String,
        sha256: String = this.sha256,
        bytes: Int = content.size,
    ): ModelFile {
        val file = Tests.path(name).apply { delete() }
        File(file.path + ".part").delete()
        return ModelFile(
            URL("http://127.0.0.1:${server.address.port}/model.rnl"),
            file,
            bytes.toLong(),
            sha256,
        )
    }

    private fun part(model: ModelFile) = File(model.file.path + ".part")

    @Test
    fun `a whole file`(): Unit =
        runBlocking<Unit> {
            val model = model("whole.rnl", sha256.uppercase())
            val seen = mutableListOf<Long>()
            assertFalse(model.isReady)
            val file = model.fetch { done, total ->
                assertEquals(content.size.toLong(), total)
                assertFalse(model.file.exists())
                seen += done
            }
            assertContentEquals(content, file.readBytes())
            assertEquals(content.size.toLong(), seen.last())
            assertTrue(model.isReady && !part(model).exists())
            model.fetch()
            assertEquals(1, asked.size) // it is there
        }

    @Test
    fun `goes on behind a break, also in a later process`(): Unit =
        runBlocking<Unit> {
            val model = model("breaks.rnl")
            breaks = mutableListOf(300_000, 200_000, null)
            assertContentEquals(content, model.fetch().readBytes())
            assertEquals(listOf(null, "bytes=300000-", "bytes=500000-"), asked)
            asked.clear()
            breaks = mutableListOf(100_000, 0, 0)
            val later = model("later.rnl")
            assertFailsWith<IOException> { later.fetch(attempts = 2) }
            assertEquals(100_000, part(later).length())
            assertFalse(later.file.exists())
            breaks.clear()
            assertContentEquals(
                content,
                ModelFile(
                        URL("http://127.0.0.1:${server.address.port}/model.rnl"),
                        later.file,
                        content.size.toLong(),
                        sha256,
                    )
                    .fetch()
                    .readBytes(),
            )
            assertEquals("bytes=100000-", asked.last())
        }

    @Test
    fun `a server without ranges begins anew`(): Unit =
        runBlocking<Unit> {
            knowsRanges = false
            breaks = mutableListOf(300_000, null)
            assertContentEquals(content, model("anew.rnl").fetch().readBytes())
            assertEquals(listOf(null, "bytes=300000-"), asked)
        }

    @Test
    fun `wrong bytes are refused and the older file stays`(): Unit =
        runBlocking<Unit> {
            val model = model("wrong.rnl")
            model.file.writeText("an older version")
            body = content.copyOf().also { it[500_000] = (it[500_000] + 1).toByte() }
            assertTrue("SHA-256" in assertFailsWith<IOException> { model.fetch() }.message!!)
            assertEquals("an older version", model.file.readText())
            assertFalse(part(model).exists())
            body = content
            assertContentEquals(content, model.fetch().readBytes()) // and is replaced as a whole
        }

    @Test
    fun `files of other sizes are refused`(): Unit =
        runBlocking<Unit> {
            val long = model("long.rnl", bytes = content.size - 1)
            assertTrue("more than" in assertFailsWith<IOException> { long.fetch() }.message!!)
            assertFalse(long.file.exists() || part(long).exists())
            val short = model("short.rnl", bytes = content.size + 1)
            assertFailsWith<IOException> { short.fetch(attempts = 2) }
            assertFalse(short.file.exists())
            assertFailsWith<IllegalArgumentException> { model("x", sha256 = "abc") }
        }

    @Test
    fun `what the server refuses is not asked for again`(): Unit =
        runBlocking<Unit> {
            status = 404
            assertTrue(
                "HTTP 404" in assertFailsWith<IOException> { model("404.rnl").fetch() }.message!!
            )
            assertEquals(1, asked.size)
            status = 503
            assertFailsWith<IOException> { model("503.rnl").fetch(attempts = 2) }
            assertEquals(3, asked.size)
        }

    @Test
    fun `a cancelled download keeps what came`(): Unit =
        runBlocking<Unit> {
            val model = model("cancelled.rnl")
            val slow =
                HttpServer.create(InetSocketAddress("127.0.0.1", 0), 0).apply {
                    executor = pool
                    createContext("/") {
                        it.sendResponseHeaders(200, content.size.toLong())
                        it.responseBody.write(content, 0, 400_000)
                        for (at in 400_000 until content.size) { // for hours
                            it.responseBody.write(content, at, 1)
                            it.responseBody.flush()
                            Thread.sleep(20)
                        }
                    }
                    start()
                }
            val drips =
                ModelFile(
                    URL("http://127.0.0.1:${slow.address.port}/"),
                    model.file,
                    content.size.toLong(),
                    sha256,
                )
            val job = launch(Dispatchers.Default) { drips.fetch() }
            while (part(model).length() < 400_000) delay(10)
            job.cancelAndJoin()
            slow.stop(0)
            assertContentEquals(content, model.fetch().readBytes())
            assertTrue(
                asked.single()!!.removePrefix("bytes=").removeSuffix("-").toInt() in
                    400_000 until 500_000,
                "$asked",
            )
        }
}
