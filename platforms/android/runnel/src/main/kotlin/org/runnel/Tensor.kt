package org.runnel

import java.nio.Buffer
import java.nio.ByteBuffer
import java.nio.ByteOrder

/**
 * A dense row-major tensor in a direct buffer, which native code reads and writes in place. [data]
 * is the bytes from the buffer's position to its limit, in native order.
 */
class Tensor(val name: String, val dtype: DType, val dims: LongArray, data: ByteBuffer) {
    val data: ByteBuffer = data.run {
        require(isDirect) { "tensor \"$name\": its buffer is not direct" }
        slice().order(ByteOrder.nativeOrder())
    }

    constructor(
        name: String,
        values: FloatArray,
        vararg dims: Long,
    ) : this(name, DType.F32, dims, buffer(values.size * 4L).apply { asFloatBuffer().put(values) })

    constructor(
        name: String,
        values: IntArray,
        vararg dims: Long = longArrayOf(values.size.toLong()),
    ) : this(name, DType.I32, dims, buffer(values.size * 4L).apply { asIntBuffer().put(values) })

    constructor(
        name: String,
        values: LongArray,
        vararg dims: Long = longArrayOf(values.size.toLong()),
    ) : this(name, DType.I64, dims, buffer(values.size * 8L).apply { asLongBuffer().put(values) })

    val elements: Long
        get() = dims.fold(1L) { n, d -> n * d }

    /** A copy of the elements; the dtype must be F32. */
    fun floats(): FloatArray {
        check(dtype == DType.F32) { "tensor \"$name\" is $dtype" }
        return FloatArray(elements.toInt()).also {
            data.duplicate().order(ByteOrder.nativeOrder()).asFloatBuffer().get(it)
        }
    }

    /** A copy of the elements; the dtype must be I32. */
    fun ints(): IntArray {
        check(dtype == DType.I32) { "tensor \"$name\" is $dtype" }
        return IntArray(elements.toInt()).also {
            data.duplicate().order(ByteOrder.nativeOrder()).asIntBuffer().get(it)
        }
    }

    override fun toString(): String = "$name: $dtype ${dims.contentToString()}"

    companion object {
        /** Zeroed. */
        fun zeros(name: String, dtype: DType, vararg dims: Long): Tensor {
            require(dtype.bytes > 0) { "a tensor cannot be $dtype" }
            return Tensor(
                name,
                dtype,
                dims,
                buffer(dims.fold(dtype.bytes.toLong()) { n, d -> Math.multiplyExact(n, d) }),
            )
        }

        internal fun buffer(bytes: Long): ByteBuffer =
            ByteBuffer.allocateDirect(Math.toIntExact(bytes)).order(ByteOrder.nativeOrder())
    }
}

/** What a call would give in an output. */
data class OutputShape(val name: String, val dtype: DType, val dims: List<Long>, val bytes: Long)

/** Tensors as the native side takes them. */
internal class TensorArrays(tensors: List<Tensor>) {
    val names = utf8(tensors.map { it.name })
    val dtypes = IntArray(tensors.size) { tensors[it].dtype.code }
    val dims = Array(tensors.size) { tensors[it].dims }
    val buffers = Array(tensors.size) { tensors[it].data }
}

/** Before Android 9 a ByteBuffer had no limit() of its own, only Buffer's. */
internal fun ByteBuffer.firstBytes(count: Long): ByteBuffer =
    duplicate().also { (it as Buffer).limit(Math.toIntExact(count)) }

/** dtype, rank, bytes and six dims, which the native side fills in for each output. */
internal fun outputNumbers(count: Int) = Array(count) { LongArray(9) }

internal fun LongArray.outputDims() = sliceArray(3 until 3 + this[1].toInt())
