package org.runnel

import java.io.Closeable
import java.io.File
import java.nio.ByteBuffer
import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.CoroutineStart
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.awaitCancellation
import kotlinx.coroutines.channels.Channel
import kotlinx.coroutines.channels.SendChannel
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.buffer
import kotlinx.coroutines.flow.channelFlow
import kotlinx.coroutines.flow.filter
import kotlinx.coroutines.flow.map
import kotlinx.coroutines.launch
import kotlinx.coroutines.sync.Mutex
import kotlinx.coroutines.sync.withLock
import kotlinx.coroutines.withContext

/**
 * One stream. It may be used from any thread: calls run one after the other on a thread of its own.
 * A call that its coroutine no longer wants is cancelled and ends before the coroutine goes on, so
 * buffers that it was given are free then.
 */
class Session internal constructor(val model: Model, private val pointer: Long) : Closeable {
    private class Call(var isUnwanted: Boolean = false)

    private val handle =
        Handle("session", pointer, model.handle.memory) { Native.sessionDestroy(it) }
    private val forget = Net.watch(this, handle)
    private val thread = SessionThread()
    private val turn = Mutex()
    private val lock = Any()
    private var running: Call? = null
    private var isClosing = false

    /**
     * Runs a native call on the session's thread, in its turn. Who waits for its turn may be
     * cancelled at once.
     */
    private suspend fun <T> call(block: (Long) -> T): T = turn.withLock { callNow(block) }

    private suspend fun <T> callNow(block: (Long) -> T): T =
        withContext(thread) {
            val call = Call()
            val watch =
                launch(Dispatchers.Unconfined, CoroutineStart.UNDISPATCHED) {
                    try {
                        awaitCancellation()
                    } finally {
                        synchronized(lock) {
                            call.isUnwanted = true
                            if (running === call) Native.sessionCancel(pointer)
                        }
                    }
                }
            try {
                handle.use { run(call, block) }
            } catch (e: RunnelException) {
                throw if (e.status == Status.CANCELLED && call.isUnwanted)
                    CancellationException(e.message, e)
                else e
            } finally {
                watch.cancel()
            }
        }

    // While a call is `running` its handle is in use, so that others may cancel it.
    private fun <T> run(call: Call, block: (Long) -> T): T {
        synchronized(lock) {
            check(!isClosing) { "this session is closed" }
            if (call.isUnwanted) throw CancellationException("cancelled before it began")
            running = call
            Native.sessionClearCancel(pointer)
        }
        try {
            return block(pointer)
        } finally {
            synchronized(lock) { running = null }
        }
    }

    /**
     * Asks the call that runs now to stop: it fails with [Status.CANCELLED]. Of no effect when none
     * runs.
     */
    fun cancel() = synchronized(lock) { if (running != null) Native.sessionCancel(pointer) }

    /**
     * Cancels the call that runs (it fails with [Status.CANCELLED]), waits for it and frees the
     * session; calls that wait fail as those after it do, with IllegalStateException. Within a
     * callback of its own call it returns at once and the session is freed when that call ends.
     */
    override fun close() {
        forget()
        synchronized(lock) {
            isClosing = true
            cancel()
        }
        handle.close()
        thread.close()
        if (!thread.isCurrent) handle.awaitFreed()
    }

    /** The exact bytes that this session has. */
    val memory: Memory = Memory(Native.sessionMemory(pointer))

    /** From any thread, also while a call runs. */
    fun stats(): Stats =
        handle.use { Native.sessionStats(it) }.let { Stats(it[0], it[1], it[2], it[3]) }

    suspend fun backend(): BackendInfo = call {
        val n = LongArray(10)
        val device = Native.sessionBackend(it, n).decodeToString()
        BackendInfo(device, n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8], n[9])
    }

    /**
     * Leaves the device for the CPU, where the session goes on from its present position; after
     * [Status.DEVICE_LOST].
     */
    suspend fun recover(): Unit = call { Native.sessionRecover(it) }

    // ---- text ----

    /**
     * Continues the stream behind [prompt] and gives the text as it becomes certain. "": goes on
     * with the answer under way. The model's default bos and eos are written where the stream is
     * empty. The answer does not wait for a slow collector; a collector that stops cancels it, and
     * the stream then holds what was generated until then ([GenerateOptions.onToken] stops at a
     * token).
     */
    fun generate(prompt: String, options: GenerateOptions = GenerateOptions()): Flow<String> =
        textOf(
            tokens(options) { session, sink ->
                val ids =
                    if (prompt.isEmpty()) IntArray(0)
                    else model.tokenize(prompt, withBosEos = Native.sessionPosition(session) == 0L)
                generate(session, ids, options, sink)
            }
        )

    /** The same token by token, from ids. */
    fun generateTokens(
        prompt: IntArray,
        options: GenerateOptions = GenerateOptions(),
    ): Flow<Token> = tokens(options) { session, sink -> generate(session, prompt, options, sink) }

    /**
     * Answers a conversation, of which what the stream holds already is not fed again. The answer
     * is to be the content of the next message of role assistant.
     */
    fun chat(chat: Chat, options: GenerateOptions = GenerateOptions()): Flow<String> =
        textOf(chatTokens(chat, options))

    fun chat(messages: List<Message>, options: GenerateOptions = GenerateOptions()): Flow<String> =
        chat(Chat(messages), options)

    fun chatTokens(chat: Chat, options: GenerateOptions = GenerateOptions()): Flow<Token> =
        tokens(options) { session, sink ->
            lastChat =
                withGrammar(options) { grammar ->
                        Native.chat(
                            session,
                            chat.roles,
                            chat.contents,
                            chat.names,
                            chat.texts,
                            chat.truths,
                            chat.now,
                            options.numbers(grammar),
                            options.rates(),
                            options.biasIds,
                            options.biases,
                            utf8(options.stop),
                            sink,
                        )
                    }
                    .let { ChatResult(it[0], it[1], it[2], it[3]) }
        }

    /** Of the last conversation that was answered to its end. */
    @Volatile
    var lastChat: ChatResult? = null
        private set

    private fun generate(session: Long, ids: IntArray, options: GenerateOptions, sink: Sink) {
        withGrammar(options) { grammar ->
            Native.generate(
                session,
                ids,
                options.numbers(grammar),
                options.rates(),
                options.biasIds,
                options.biases,
                utf8(options.stop),
                sink,
            )
        }
    }

    private fun <T> withGrammar(options: GenerateOptions, block: (Long) -> T): T =
        options.grammar?.handle?.use(block) ?: block(0)

    private fun textOf(tokens: Flow<Token>): Flow<String> =
        tokens.map { it.text }.filter { it.isNotEmpty() }

    private fun tokens(options: GenerateOptions, block: (Long, Sink) -> Unit): Flow<Token> =
        channelFlow {
            call { block(it, TokenSink(options, channel)) }
        }.buffer(Channel.UNLIMITED)

    private class TokenSink(
        private val options: GenerateOptions,
        private val to: SendChannel<Token>,
    ) : ProgressSink(options.onProgress) {
        override fun onToken(
            id: Int,
            text: ByteArray,
            logprob: Float,
            bestIds: IntArray?,
            bestLogprobs: FloatArray?,
        ): Boolean {
            val best = bestIds?.mapIndexed { i, other -> Logprob(other, bestLogprobs!![i]) }
            val token =
                Token(
                    id,
                    text.decodeToString(),
                    if (best == null) Float.NaN else logprob,
                    best ?: emptyList(),
                )
            val goesOn = options.onToken?.invoke(token) ?: true
            return to.trySend(token).isSuccess && goesOn
        }
    }

    /**
     * The embedding of a text: [ModelInfo.embedding] floats. Empties the stream first. [normalise]
     * null: as the model says.
     */
    suspend fun embed(
        text: String,
        pooling: Pooling = Pooling.OF_MODEL,
        normalise: Boolean? = null,
    ): FloatArray = embed(model.tokenize(text), pooling, normalise)

    suspend fun embed(
        ids: IntArray,
        pooling: Pooling = Pooling.OF_MODEL,
        normalise: Boolean? = null,
    ): FloatArray = call {
        val how =
            when (normalise) {
                null -> 0
                true -> 1
                false -> -1
            }
        Native.sessionEmbed(it, ids, pooling.ordinal, how, model.info.embedding, Sink())
    }

    // ---- tensors ----

    /** What [run] with these inputs would give; nothing runs. */
    suspend fun outputShapes(
        inputs: List<Tensor>,
        outputs: List<String>,
        program: String? = null,
        allRows: Boolean = false,
    ): List<OutputShape> = call { shapes(it, TensorArrays(inputs), outputs, program, allRows) }

    private fun shapes(
        session: Long,
        inputs: TensorArrays,
        outputs: List<String>,
        program: String?,
        allRows: Boolean,
    ): List<OutputShape> {
        val numbers = outputNumbers(outputs.size)
        inputs.run {
            Native.sessionOutputShapes(
                session,
                program?.let(::utf8),
                names,
                dtypes,
                dims,
                buffers,
                utf8(outputs),
                allRows,
                numbers,
            )
        }
        return numbers.mapIndexed { i, n ->
            OutputShape(outputs[i], DType.of(n[0].toInt()), n.outputDims().asList(), n[2])
        }
    }

    /** Runs a program (null: the first) and gives the named outputs in new buffers. */
    suspend fun run(
        inputs: List<Tensor>,
        outputs: List<String>,
        program: String? = null,
    ): List<Tensor> = call { session ->
        val given = TensorArrays(inputs)
        val buffers =
            shapes(session, given, outputs, program, false).map { Tensor.buffer(it.bytes) }
        run(session, given, outputs, buffers, program, null)
    }

    /**
     * The same into buffers of the caller, by output; nothing is allocated for them. [onProgress]:
     * tokens done and all, on the session's thread; false cancels.
     */
    suspend fun run(
        inputs: List<Tensor>,
        outputs: Map<String, ByteBuffer>,
        program: String? = null,
        onProgress: ((done: Long, total: Long) -> Boolean)? = null,
    ): List<Tensor> {
        val buffers = outputs.map { (name, buffer) ->
            require(buffer.isDirect) { "the buffer for output \"$name\" is not direct" }
            buffer.slice()
        }
        return call {
            run(it, TensorArrays(inputs), outputs.keys.toList(), buffers, program, onProgress)
        }
    }

    private fun run(
        session: Long,
        inputs: TensorArrays,
        outputs: List<String>,
        buffers: List<ByteBuffer>,
        program: String?,
        onProgress: ((Long, Long) -> Boolean)?,
    ): List<Tensor> {
        val numbers = outputNumbers(outputs.size)
        inputs.run {
            Native.sessionRun(
                session,
                program?.let(::utf8),
                names,
                dtypes,
                dims,
                this.buffers,
                utf8(outputs),
                buffers.toTypedArray(),
                numbers,
                ProgressSink(onProgress),
            )
        }
        return numbers.mapIndexed { i, n ->
            val dtype = DType.of(n[0].toInt())
            val dims = n.outputDims()
            val bytes = dims.fold(dtype.bytes.toLong()) { size, d -> size * d }
            Tensor(outputs[i], dtype, dims, buffers[i].firstBytes(bytes))
        }
    }

    /**
     * The same with outputs in blocks of rows, on the session's thread: [onBlock] gets a block and
     * its first row; false cancels. The block is the library's memory and valid within [onBlock]
     * alone. [outputs] empty: all that are not optional. [allRows]: of every token.
     */
    suspend fun runBlocks(
        inputs: List<Tensor>,
        outputs: List<String> = emptyList(),
        program: String? = null,
        allRows: Boolean = false,
        onBlock: (block: Tensor, firstRow: Long) -> Boolean,
    ): Unit = call { session ->
        val sink =
            object : Sink() {
                override fun onBlock(
                    name: ByteArray,
                    dtype: Int,
                    dims: LongArray,
                    data: ByteBuffer,
                    firstRow: Long,
                ) = onBlock(Tensor(name.decodeToString(), DType.of(dtype), dims, data), firstRow)
            }
        TensorArrays(inputs).run {
            Native.sessionRunBlocks(
                session,
                program?.let(::utf8),
                names,
                dtypes,
                dims,
                buffers,
                utf8(outputs),
                allRows,
                sink,
            )
        }
    }

    /**
     * Of each row of logits that later calls of [run] give, only the [k] highest are wanted; the
     * others may be negative infinity. 0: all.
     */
    suspend fun setTopLogits(k: Int): Unit = call { Native.sessionSetTopLogits(it, k) }

    private open class ProgressSink(private val progress: ((Long, Long) -> Boolean)?) : Sink() {
        override fun onProgress(done: Long, total: Long): Boolean =
            progress?.invoke(done, total) ?: true
    }

    // ---- the stream as a value ----

    /** Tokens in the stream. */
    suspend fun position(): Long = call { Native.sessionPosition(it) }

    /** Empties the stream. */
    suspend fun reset(): Unit = call { Native.sessionReset(it) }

    /** Takes back the last [tokens], at most [SessionOptions.rollbackWindow]. */
    suspend fun rollback(tokens: Long): Unit = call { Native.sessionRollback(it, tokens) }

    /** A copy of the stream's state, in a direct buffer. */
    suspend fun snapshot(): ByteBuffer = call { session ->
        Tensor.buffer(Native.sessionSnapshotBytes(session)).also {
            Native.sessionSnapshot(session, it)
        }
    }

    /**
     * [Status.STATE_MISMATCH], and no effect: it was made with another model or plan, or is
     * damaged.
     */
    suspend fun restore(snapshot: ByteBuffer) {
        require(snapshot.isDirect) { "the snapshot's buffer is not direct" }
        val bytes = snapshot.slice()
        call { Native.sessionRestoreSnapshot(it, bytes) }
    }

    /** Written to a temporary file, synced, renamed. */
    suspend fun save(file: File): Unit = call { Native.sessionSave(it, utf8(file.path)) }

    suspend fun restore(file: File): Unit = call { Native.sessionRestore(it, utf8(file.path)) }

    /** A second session with the same contents and options. */
    suspend fun fork(): Session = call { Session(model, Native.sessionFork(it)) }

    /**
     * Gives the pages of activations and scratch ([Memory.arena]) back to the system, behind the
     * calls that wait; the next call takes them again.
     */
    suspend fun trim(): Unit = call { Native.sessionTrim(it) }

    /**
     * For onTrimMemory: does so where the [level] asks for memory and returns at once, with whether
     * it does. The stream stays whatever the level, and so does everything when the app has merely
     * left the screen (UI_HIDDEN): who comes back goes on without a wait.
     */
    fun trim(level: Int): Boolean =
        TrimLevel.asksForMemory(level).also { asks ->
            if (asks)
                CoroutineScope(Dispatchers.Unconfined).launch {
                    try {
                        trim()
                    } catch (_: IllegalStateException) {
                        // Closed meanwhile: nothing is left to give back.
                    }
                }
        }

    companion object {
        /** What a saved stream was saved with. */
        suspend fun saved(file: File): SavedStream =
            withContext(Dispatchers.IO) {
                Native.savedOptions(utf8(file.path)).let {
                    SavedStream(SessionOptions.of(it), it[8])
                }
            }
    }
}
