package org.runnel

/** What a model says of itself; bytes of files, -1 for a token that there is not. */
data class ModelInfo(
    val name: String,
    val architecture: String,
    val licence: String,
    val source: String,
    /** Tokens; 0: not stated. */
    val context: Long,
    /** Pieces of the tokenizer, 0 without one. */
    val vocabulary: Int,
    val hasChat: Boolean,
    val bos: Int,
    val eos: Int,
    /** Floats of what [Session.embed] gives; 0: the model gives no embeddings. */
    val embedding: Int,
    /** The file's version. */
    val formatMajor: Int,
    val formatMinor: Int,
    val converter: String,
    val sourceSha256: String,
    val sourceBytes: Long,
    val sourceTensorBytes: Long,
    val fileBytes: Long,
    val adapterBytes: Long,
)

enum class DType(internal val code: Int, internal val bytes: Int) {
    F32(1, 4),
    F16(2, 2),
    BF16(3, 2),
    I32(4, 4),
    I64(5, 8),
    U8(6, 1),
    I8(7, 1),
    /** Of states alone, not of tensors that an app holds. */
    Q8(9, 0);

    internal companion object {
        fun of(code: Int): DType =
            entries.firstOrNull { it.code == code }
                ?: throw RunnelException(Status.UNSUPPORTED, "dtype $code is unknown")
    }
}

/**
 * A program of a model. [stream] is the symbol of the axis along which long calls are cut into
 * passes, [rows] the one that counts the wanted rows of outputs; "": none.
 */
data class ProgramInfo(
    val name: String,
    val stream: String,
    val rows: String,
    val inputs: Int,
    val outputs: Int,
)

/** What a session fills in when a call leaves the input out. */
enum class Role {
    NONE,
    TOKENS,
    POSITIONS,
    ROWS,
    CONTEXT,
}

/** An input or output. Each size is an expression over symbols, such as "T" or "2*T+1". */
data class ValueInfo(
    val name: String,
    val dtype: DType,
    val sizes: List<String>,
    val role: Role,
    val isOptional: Boolean,
)

enum class SymbolKind {
    OPTION,
    AXIS,
    RESULT,
}

/** A named size and the expression that bounds it; "" of an option. */
data class SymbolInfo(val name: String, val kind: SymbolKind, val bound: String)

enum class StateKind {
    RING,
    APPEND,
    RECURRENT,
    KEPT,
    FIRST,
}

/**
 * What a session keeps between calls. [window]: positions that a ring's operators look back, 0: no
 * window.
 */
data class StateInfo(
    val name: String,
    val kind: StateKind,
    val dtype: DType,
    val sizes: List<String>,
    val window: Long,
)

/** The lists of a model's graph, from its handle. */
internal object Graph {
    private fun <T> list(
        texts: Int,
        numbers: Int,
        get: (Long, Array<ByteArray?>, LongArray) -> Boolean,
        make: (List<String>, LongArray) -> T,
    ): List<T> = buildList {
        val t = arrayOfNulls<ByteArray>(texts)
        val n = LongArray(numbers)
        while (get(size.toLong(), t, n)) add(make(t.map { it!!.decodeToString() }, n))
    }

    fun programs(model: Long) =
        list(3, 2, { i, t, n -> Native.modelProgram(model, i, t, n) }) { t, n ->
            ProgramInfo(t[0], t[1], t[2], n[0].toInt(), n[1].toInt())
        }

    fun values(model: Long, program: String?, isOutput: Boolean): List<ValueInfo> {
        val name = program?.let(::utf8)
        return list(7, 4, { i, t, n -> Native.modelValue(model, name, isOutput, i, t, n) }) { t, n
            ->
            ValueInfo(
                t[0],
                DType.of(n[0].toInt()),
                t.drop(1).take(n[1].toInt()),
                Role.entries[n[2].toInt()],
                n[3] != 0L,
            )
        }
    }

    fun symbols(model: Long) =
        list(2, 1, { i, t, n -> Native.modelSymbol(model, i, t, n) }) { t, n ->
            SymbolInfo(t[0], SymbolKind.entries[n[0].toInt()], t[1])
        }

    fun states(model: Long) =
        list(7, 4, { i, t, n -> Native.modelState(model, i, t, n) }) { t, n ->
            StateInfo(
                t[0],
                StateKind.entries[n[0].toInt()],
                DType.of(n[1].toInt()),
                t.drop(1).take(n[2].toInt()),
                n[3],
            )
        }
}
