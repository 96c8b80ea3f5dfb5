package org.runnel

import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.math.abs
import kotlin.test.assertContentEquals
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertNotNull
import kotlin.test.assertTrue
import org.junit.jupiter.api.Test

/** A graph of tensors (a gated linear attention layer) against the formula's own numbers. */
class TensorTest {
    private val rows = 37
    private val width = 12

    private fun golden(name: String): FloatArray {
        val bytes =
            ByteBuffer.wrap(File(System.getProperty("runnel.models"), "gla.$name").readBytes())
                .order(ByteOrder.LITTLE_ENDIAN)
                .asFloatBuffer()
        return FloatArray(bytes.remaining()).also { bytes.get(it) }
    }

    private val x = golden("x")
    private val y = golden("y")

    private fun part(begin: Int, end: Int) =
        Tensor(
            "x",
            x.copyOfRange(begin * width, end * width),
            (end - begin).toLong(),
            width.toLong(),
        )

    private fun close(got: FloatArray, begin: Int) {
        val most = y.maxOf { abs(it) }
        for (i in got.indices) assertTrue(
            abs(got[i] - y[begin * width + i]) < 1e-4f * most,
            "element $i",
        )
    }

    @Test
    fun `in calls of any length`() {
        for (step in listOf(1, 5, rows)) Tests.with("gla") { session ->
            for (begin in 0 until rows step step) {
                val end = minOf(begin + step, rows)
                val out = session.run(listOf(part(begin, end)), listOf("y")).single()
                assertEquals(DType.F32, out.dtype)
                assertContentEquals(longArrayOf((end - begin).toLong(), width.toLong()), out.dims)
                close(out.floats(), begin)
            }
        }
    }

    @Test
    fun `into buffers of the caller, from a part of a buffer`(): Unit =
        Tests.with("gla") { session ->
            val input =
                Tensor.buffer(4L * (x.size + 3)).apply {
                    asFloatBuffer().apply { position(3) }.put(x)
                }
            input.position(12)
            val output = Tensor.buffer(4L * y.size + 64).apply { position(64) }
            val result =
                session
                    .run(
                        listOf(
                            Tensor(
                                "x",
                                DType.F32,
                                longArrayOf(rows.toLong(), width.toLong()),
                                input,
                            )
                        ),
                        mapOf("y" to output),
                    )
                    .single()
            close(result.floats(), 0)
            val direct =
                FloatArray(y.size).also {
                    output.order(ByteOrder.nativeOrder()).asFloatBuffer().get(it)
                }
            assertContentEquals(direct, result.floats())
        }

    @Test
    fun `in blocks`(): Unit =
        Tests.with("gla", SessionOptions(chunk = 8)) { session ->
            assertEquals(
                listOf(OutputShape("y", DType.F32, listOf(37L, 12L), 37L * 12 * 4)),
                session.outputShapes(listOf(part(0, rows)), listOf("y")),
            )
            val all = mutableListOf<Float>()
            session.runBlocks(listOf(part(0, rows)), listOf("y")) { block, first ->
                assertEquals(all.size, first.toInt() * width)
                all += block.floats().asList()
                true
            }
            close(all.toFloatArray(), 0)
            session.reset()
            Tests.fails(Status.CANCELLED) {
                session.runBlocks(listOf(part(0, rows))) { _, _ -> false }
            }
            assertEquals(
                "mine",
                assertFailsWith<RuntimeException> {
                        session.runBlocks(listOf(part(0, rows))) { _, _ -> error("mine") }
                    }
                    .message,
            )
        }

    @Test
    fun `a language model's logits`(): Unit =
        Tests.with("llama") { session ->
            val ids = session.model.tokenize(Tests.PROMPT)
            val logits = session.run(listOf(Tensor("ids", ids)), listOf("logits")).single()
            val best = logits.floats().withIndex().maxBy { it.value }.index
            session.reset()
            val rows =
                session
                    .run(
                        listOf(
                            Tensor("ids", LongArray(ids.size) { ids[it].toLong() }),
                            Tensor("rows", intArrayOf(0, ids.size - 1)),
                        ),
                        listOf("logits"),
                    )
                    .single()
            assertEquals(2, rows.dims[0])
            assertEquals(
                best,
                rows
                    .floats()
                    .takeLast(session.model.info.vocabulary)
                    .withIndex()
                    .maxBy { it.value }
                    .index,
            )
            session.reset()
            session.run(
                listOf(Tensor("ids", ids), Tensor("rows", IntArray(0))),
                emptyList(),
            ) // fed, nothing wanted
            assertEquals(ids.size.toLong(), session.position())
            session.setTopLogits(3)
            session.reset()
            assertEquals(
                best,
                session
                    .run(listOf(Tensor("ids", ids)), listOf("logits"))
                    .single()
                    .floats()
                    .withIndex()
                    .maxBy { it.value }
                    .index,
            )
            val calls = mutableListOf<Long>()
            session.run(
                listOf(Tensor("ids", IntArray(600) { 40 })),
                emptyMap(),
                onProgress = { done, _ -> calls.add(done) },
            )
            assertTrue(calls.isNotEmpty())
        }

    @Test
    fun `what is wrong is named`(): Unit =
        Tests.with("gla") { session ->
            Tests.fails(Status.INVALID_ARGUMENT, "\"x\"") {
                session.run(listOf(Tensor("x", FloatArray(13), 1, 13)), listOf("y"))
            }
            Tests.fails(Status.INVALID_ARGUMENT, "z😀") {
                session.run(listOf(part(0, 1)), listOf("z😀"))
            }
            Tests.fails(Status.INVALID_ARGUMENT, "7 axes") {
                session.run(listOf(Tensor("x", FloatArray(12), 1, 1, 1, 1, 1, 1, 12)), listOf("y"))
            }
            Tests.fails(Status.INVALID_ARGUMENT) {
                session.run(listOf(part(0, 2)), mapOf("y" to Tensor.buffer(4)))
            }
            Tests.fails(Status.INVALID_ARGUMENT) {
                session.run(
                    listOf(Tensor("x", DType.F32, longArrayOf(4, 12), Tensor.buffer(4))),
                    listOf("y"),
                )
            }
            Tests.fails(Status.NOT_FOUND, "none") {
                session.run(listOf(part(0, 1)), listOf("y"), "none")
            }
            assertFailsWith<IllegalArgumentException> {
                Tensor("x", DType.F32, longArrayOf(1), ByteBuffer.allocate(4))
            }
            assertFailsWith<IllegalArgumentException> {
                session.run(listOf(part(0, 1)), mapOf("y" to ByteBuffer.allocate(4)))
            }
            assertEquals(0, session.position())
        }

    @Test
    fun `the graph is told`(): Unit =
        Tests.with("llama") { session ->
            val model = session.model
            assertEquals(
                listOf("ids"),
                model.inputs().filter { it.role == Role.TOKENS }.map { it.name },
            )
            assertNotNull(
                model.outputs(model.programs()[0].name).firstOrNull {
                    it.name == "logits" && it.dtype == DType.F32 && it.sizes.size == 2
                }
            )
            assertEquals(model.programs()[0].inputs, model.inputs().size)
            assertTrue(
                model.symbols().any {
                    it.name == "context" && it.kind == SymbolKind.OPTION && it.bound == ""
                }
            )
            assertTrue(
                model.states().isNotEmpty() && model.states().all { it.kind == StateKind.APPEND }
            )
            Tests.with("griffin") { other ->
                assertTrue(other.model.states().any { it.kind == StateKind.RECURRENT })
            }
            assertEquals(emptyList(), model.inputs("none"))
        }
}
