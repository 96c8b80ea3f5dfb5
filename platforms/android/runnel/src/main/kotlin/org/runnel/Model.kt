package org.runnel

import java.io.Closeable
import java.io.File
import java.nio.ByteBuffer
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.withContext

/**
 * An opened model file, shared by any number of sessions; they go on when it is closed. May be used
 * from any thread.
 */
class Model private constructor(internal val handle: Handle) : Closeable {
    private val forget = Net.watch(this, handle)

    val info: ModelInfo by lazy {
        val t = arrayOfNulls<ByteArray>(6)
        val n = LongArray(12)
        handle.use { Native.modelInfo(it, t, n) }
        val s = t.map { it!!.decodeToString() }
        ModelInfo(
            s[0],
            s[1],
            s[2],
            s[3],
            n[0],
            n[1].toInt(),
            n[2] != 0L,
            n[3].toInt(),
            n[4].toInt(),
            n[5].toInt(),
            n[6].toInt(),
            n[7].toInt(),
            s[4],
            s[5],
            n[8],
            n[9],
            n[10],
            n[11],
        )
    }

    fun programs(): List<ProgramInfo> = handle.use { Graph.programs(it) }

    /** Of a program; null: the first one. */
    fun inputs(program: String? = null): List<ValueInfo> = handle.use {
        Graph.values(it, program, false)
    }

    fun outputs(program: String? = null): List<ValueInfo> = handle.use {
        Graph.values(it, program, true)
    }

    fun symbols(): List<SymbolInfo> = handle.use { Graph.symbols(it) }

    fun states(): List<StateInfo> = handle.use { Graph.states(it) }

    /** Reads the whole file and compares its checksums. */
    suspend fun verify(): Unit =
        withContext(Dispatchers.IO) { handle.use { Native.modelVerify(it) } }

    /** The exact sizes that a session with these options will have; nothing is allocated for it. */
    fun plan(options: SessionOptions = SessionOptions()): Memory = handle.use {
        Memory(Native.sessionPlan(it, options.numbers()))
    }

    suspend fun session(options: SessionOptions = SessionOptions()): Session =
        withContext(Dispatchers.IO) {
            handle.use { Session(this@Model, Native.sessionCreate(it, options.numbers())) }
        }

    /**
     * Text to ids. [withBosEos]: with the model's default bos and eos. [withSpecial]: special
     * tokens that are written in the text count as tokens: not for text of users.
     */
    fun tokenize(text: String, withBosEos: Boolean = true, withSpecial: Boolean = false): IntArray =
        handle.use {
            Native.tokenize(it, utf8(text), textFlags(withBosEos, withSpecial))
        }

    fun detokenize(ids: IntArray, withSpecial: Boolean = false): String = handle.use {
        Native.detokenize(it, ids, textFlags(true, withSpecial)).decodeToString()
    }

    /**
     * A conversation as the model's chat template writes it. [isClosed]: it ends behind the last
     * message, else with the opening of the model's next one.
     */
    fun chatText(chat: Chat, isClosed: Boolean = false): String = handle.use {
        Native.chatText(
                it,
                chat.roles,
                chat.contents,
                chat.names,
                chat.texts,
                chat.truths,
                isClosed,
                chat.now,
            )
            .decodeToString()
    }

    fun chatIds(chat: Chat, isClosed: Boolean = false): IntArray = handle.use {
        Native.chatIds(
            it,
            chat.roles,
            chat.contents,
            chat.names,
            chat.texts,
            chat.truths,
            isClosed,
            chat.now,
        )
    }

    /**
     * Ids of one turn of a user and the opening of the answer, for templates that leave earlier
     * turns as they are; [isFirst]: at the start of a conversation.
     */
    fun chatTurn(user: String, system: String? = null, isFirst: Boolean = true): IntArray =
        handle.use {
            Native.chatTurn(it, system?.let(::utf8), utf8(user), isFirst)
        }

    /** A grammar in GBNF's notation, whose rule `root` is the answer as a whole. */
    suspend fun grammar(text: String): Grammar =
        withContext(Dispatchers.Default) {
            handle.use { Grammar(Native.grammarCreate(it, utf8(text)), handle.memory, emptyList()) }
        }

    /** A grammar of the JSON texts that a JSON Schema accepts; null: of any JSON value. */
    suspend fun jsonGrammar(schema: String?): Grammar =
        withContext(Dispatchers.Default) {
            val texts =
                (Native.jsonGrammar(schema?.let(::utf8))
                        ?: throw RunnelException(
                            Status.UNSUPPORTED,
                            "this library was built without JSON Schema",
                        ))
                    .map { it.decodeToString() }
            if (texts.size == 1) throw RunnelException(Status.INVALID_ARGUMENT, texts[0])
            handle.use {
                Grammar(Native.grammarCreate(it, utf8(texts[0])), handle.memory, texts.drop(2))
            }
        }

    /** Sessions and grammars of this model go on. */
    override fun close() {
        forget()
        handle.close()
    }

    companion object {
        /**
         * Maps the file and reads its header only: its pages count as the file's, not as the app's.
         * The file must not be changed in place while the model is open. [copy]: read it into
         * memory instead. [adapter]: a file of `runnel-convert --adapter`.
         */
        suspend fun open(
            engine: Engine,
            file: File,
            copy: Boolean = false,
            adapter: File? = null,
        ): Model =
            withContext(Dispatchers.IO) {
                engine.handle.use {
                    val path = adapter?.path?.let(::utf8)
                    Model(modelHandle(Native.modelOpen(it, utf8(file.path), copy, path), null))
                }
            }

        /**
         * A model in a direct buffer that begins at a multiple of 64 bytes, such as a mapped part
         * of a file. It is kept until the model and its sessions are gone.
         */
        suspend fun open(engine: Engine, data: ByteBuffer): Model =
            withContext(Dispatchers.IO) {
                require(data.isDirect) { "the model's buffer is not direct" }
                val whole = data.slice()
                engine.handle.use { Model(modelHandle(Native.modelOpenMemory(it, whole), whole)) }
            }

        private fun modelHandle(pointer: Long, memory: ByteBuffer?) =
            Handle("model", pointer, memory) { Native.modelClose(it) }

        private fun textFlags(withBosEos: Boolean, withSpecial: Boolean) =
            (if (withBosEos) 0 else 1) or (if (withSpecial) 2 else 0)
    }
}

/** A grammar that answers must follow; sessions of its model share it, from any thread. */
class Grammar
internal constructor(
    pointer: Long,
    memory: Any?,
    /** What a JSON Schema asks for and the grammar does not enforce, with its place. */
    val notes: List<String>,
) : Closeable {
    internal val handle = Handle("grammar", pointer, memory) { Native.grammarDestroy(it) }
    private val forget = Net.watch(this, handle)

    /** A call that uses it goes on. */
    override fun close() {
        forget()
        handle.close()
    }
}

/**
 * A whole conversation, oldest message first. [variables]: of the model's chat template, each a
 * String or a Boolean, such as enable_thinking.
 */
class Chat(
    messages: List<Message>,
    variables: Map<String, Any> = emptyMap(),
    /** Seconds since 1970 for templates that write the date; 0: the clock's. */
    internal val now: Long = 0,
) {
    internal val roles = utf8(messages.map { it.role })
    internal val contents = utf8(messages.map { it.content })
    internal val names = utf8(variables.keys.toList())
    internal val texts =
        variables.values
            .map {
                require(it is String || it is Boolean) {
                    "a chat variable is a String or a Boolean"
                }
                (it as? String)?.let(::utf8)
            }
            .toTypedArray()
    internal val truths = variables.values.map { it == true }.toBooleanArray()
}
