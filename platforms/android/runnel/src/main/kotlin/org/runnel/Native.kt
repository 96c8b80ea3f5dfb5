package org.runnel

import java.nio.ByteBuffer

/**
 * The native methods, as src/main/cpp registers them. Text is UTF-8 in byte arrays, handles are
 * longs, structs are arrays of their numbers and texts in the order of the C header. Who calls sees
 * to it that handles are alive ([Handle]) and sessions used by one thread at a time
 * ([SessionThread]).
 */
internal object Native {
    init {
        // A file's path where the library is not in the app's own folder, such as on a host.
        System.getProperty("org.runnel.library")?.let { System.load(it) }
            ?: System.loadLibrary("runnel")
    }

    @JvmStatic external fun versions(): Array<ByteArray>

    @JvmStatic external fun engineCreate(threads: Int): Long

    @JvmStatic external fun engineDestroy(engine: Long)

    @JvmStatic external fun engineThreads(engine: Long): Int

    @JvmStatic
    external fun modelOpen(engine: Long, path: ByteArray, copy: Boolean, adapter: ByteArray?): Long

    @JvmStatic external fun modelOpenMemory(engine: Long, data: ByteBuffer): Long

    @JvmStatic external fun modelClose(model: Long)

    @JvmStatic external fun modelVerify(model: Long)

    @JvmStatic external fun modelInfo(model: Long, texts: Array<ByteArray?>, numbers: LongArray)

    @JvmStatic
    external fun modelProgram(
        model: Long,
        index: Long,
        texts: Array<ByteArray?>,
        numbers: LongArray,
    ): Boolean

    @JvmStatic
    external fun modelValue(
        model: Long,
        program: ByteArray?,
        isOutput: Boolean,
        index: Long,
        texts: Array<ByteArray?>,
        numbers: LongArray,
    ): Boolean

    @JvmStatic
    external fun modelSymbol(
        model: Long,
        index: Long,
        texts: Array<ByteArray?>,
        numbers: LongArray,
    ): Boolean

    @JvmStatic
    external fun modelState(
        model: Long,
        index: Long,
        texts: Array<ByteArray?>,
        numbers: LongArray,
    ): Boolean

    @JvmStatic external fun vulkanDevices(sink: Sink)

    @JvmStatic external fun sessionPlan(model: Long, options: LongArray): LongArray

    @JvmStatic external fun sessionCreate(model: Long, options: LongArray): Long

    @JvmStatic external fun sessionDestroy(session: Long)

    @JvmStatic external fun sessionMemory(session: Long): LongArray

    @JvmStatic external fun sessionBackend(session: Long, numbers: LongArray): ByteArray

    @JvmStatic external fun sessionRecover(session: Long)

    @JvmStatic external fun sessionTrim(session: Long)

    @JvmStatic external fun sessionSetTopLogits(session: Long, k: Int)

    @JvmStatic external fun sessionPosition(session: Long): Long

    @JvmStatic external fun sessionReset(session: Long)

    @JvmStatic external fun sessionRollback(session: Long, tokens: Long)

    @JvmStatic external fun sessionSnapshotBytes(session: Long): Long

    @JvmStatic external fun sessionSnapshot(session: Long, to: ByteBuffer)

    @JvmStatic external fun sessionRestoreSnapshot(session: Long, from: ByteBuffer)

    @JvmStatic external fun sessionSave(session: Long, path: ByteArray)

    @JvmStatic external fun sessionRestore(session: Long, path: ByteArray)

    @JvmStatic external fun savedOptions(path: ByteArray): LongArray

    @JvmStatic external fun sessionFork(session: Long): Long

    @JvmStatic external fun sessionCancel(session: Long)

    @JvmStatic external fun sessionClearCancel(session: Long)

    @JvmStatic external fun sessionStats(session: Long): LongArray

    @JvmStatic
    external fun sessionOutputShapes(
        session: Long,
        program: ByteArray?,
        names: Array<ByteArray>,
        dtypes: IntArray,
        dims: Array<LongArray>,
        buffers: Array<ByteBuffer>,
        outputs: Array<ByteArray>,
        allRows: Boolean,
        numbers: Array<LongArray>,
    )

    @JvmStatic
    external fun sessionRun(
        session: Long,
        program: ByteArray?,
        names: Array<ByteArray>,
        dtypes: IntArray,
        dims: Array<LongArray>,
        buffers: Array<ByteBuffer>,
        outputs: Array<ByteArray>,
        outputBuffers: Array<ByteBuffer>,
        numbers: Array<LongArray>,
        sink: Sink,
    )

    @JvmStatic
    external fun sessionRunBlocks(
        session: Long,
        program: ByteArray?,
        names: Array<ByteArray>,
        dtypes: IntArray,
        dims: Array<LongArray>,
        buffers: Array<ByteBuffer>,
        outputs: Array<ByteArray>,
        allRows: Boolean,
        sink: Sink,
    )

    @JvmStatic
    external fun sessionEmbed(
        session: Long,
        ids: IntArray,
        pooling: Int,
        normalise: Int,
        width: Int,
        sink: Sink,
    ): FloatArray

    @JvmStatic external fun tokenize(model: Long, text: ByteArray, flags: Int): IntArray

    @JvmStatic external fun detokenize(model: Long, ids: IntArray, flags: Int): ByteArray

    @JvmStatic
    external fun chatText(
        model: Long,
        roles: Array<ByteArray>,
        contents: Array<ByteArray>,
        names: Array<ByteArray>,
        texts: Array<ByteArray?>,
        truths: BooleanArray,
        isClosed: Boolean,
        now: Long,
    ): ByteArray

    @JvmStatic
    external fun chatIds(
        model: Long,
        roles: Array<ByteArray>,
        contents: Array<ByteArray>,
        names: Array<ByteArray>,
        texts: Array<ByteArray?>,
        truths: BooleanArray,
        isClosed: Boolean,
        now: Long,
    ): IntArray

    @JvmStatic
    external fun chatTurn(
        model: Long,
        system: ByteArray?,
        user: ByteArray,
        first: Boolean,
    ): IntArray

    @JvmStatic external fun grammarCreate(model: Long, text: ByteArray): Long

    @JvmStatic external fun grammarDestroy(grammar: Long)

    @JvmStatic external fun jsonGrammar(schema: ByteArray?): Array<ByteArray>?

    @JvmStatic
    external fun generate(
        session: Long,
        ids: IntArray,
        numbers: LongArray,
        rates: FloatArray,
        biasIds: IntArray,
        biases: FloatArray,
        stops: Array<ByteArray>,
        sink: Sink,
    ): Long

    @JvmStatic
    external fun chat(
        session: Long,
        roles: Array<ByteArray>,
        contents: Array<ByteArray>,
        names: Array<ByteArray>,
        texts: Array<ByteArray?>,
        truths: BooleanArray,
        now: Long,
        numbers: LongArray,
        rates: FloatArray,
        biasIds: IntArray,
        biases: FloatArray,
        stops: Array<ByteArray>,
        sink: Sink,
    ): LongArray

    /** Called by the library, from any thread. */
    @JvmStatic
    fun onLog(level: Int, message: ByteArray) {
        Runnel.log?.invoke(level > 0, message.decodeToString())
    }
}

/** What a native call calls back, on its own thread. False ends the call. */
internal open class Sink {
    open fun onToken(
        id: Int,
        text: ByteArray,
        logprob: Float,
        bestIds: IntArray?,
        bestLogprobs: FloatArray?,
    ): Boolean = true

    open fun onProgress(done: Long, total: Long): Boolean = true

    open fun onBlock(
        name: ByteArray,
        dtype: Int,
        dims: LongArray,
        data: ByteBuffer,
        firstRow: Long,
    ): Boolean = true

    open fun onLine(line: ByteArray) = Unit
}

/** Lone surrogates, which no UTF-8 has, become U+FFFD there. */
internal fun utf8(text: String): ByteArray = text.toByteArray(Charsets.UTF_8)

internal fun utf8(texts: List<String>): Array<ByteArray> = Array(texts.size) { utf8(texts[it]) }
