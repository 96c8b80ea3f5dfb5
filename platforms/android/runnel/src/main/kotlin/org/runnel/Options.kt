package org.runnel

enum class Backend {
    CPU,
    VULKAN,
}

/** Options of a session; 0 or null: the library's default. runnel.h has each field's meaning. */
data class SessionOptions(
    /** Tokens that the stream may hold; 0: the model's, at most 4096. */
    val context: Long = 0,
    /** Tokens of one pass of a long call. */
    val chunk: Long = 0,
    /** Output rows of one pass of the output matrix. */
    val rows: Long = 0,
    /** Tokens that can be taken back; -1: none. */
    val rollbackWindow: Long = 0,
    /** F32, F16 or Q8; null: as the model file says. */
    val kv: DType? = null,
    /** Creation fails when state and arena need more together; 0: no limit. */
    val budgetBytes: Long = 0,
    val backend: Backend = Backend.CPU,
    val snapshotEvery: Long = 0,
) {
    internal fun numbers() =
        longArrayOf(
            context,
            chunk,
            rows,
            rollbackWindow,
            (kv?.code ?: 0).toLong(),
            budgetBytes,
            backend.ordinal.toLong(),
            snapshotEvery,
        )

    internal companion object {
        fun of(n: LongArray) =
            SessionOptions(
                n[0],
                n[1],
                n[2],
                n[3],
                if (n[4] == 0L) null else DType.of(n[4].toInt()),
                n[5],
                Backend.entries[n[6].toInt()],
                n[7],
            )
    }
}

/** The exact bytes of a session, known before it is made. */
data class Memory(
    /** Mapped, shared between sessions: the file's pages. */
    val weights: Long,
    val state: Long,
    /** Activations and scratch; what [Session.trim] gives back. */
    val arena: Long,
    val packed: Long,
    /** The mapped vocabulary. */
    val tokenizer: Long,
    val fixed: Long,
    /** What the app pays beyond the file's pages, which the system may take at any time. */
    val anonymous: Long,
) {
    internal constructor(n: LongArray) : this(n[0], n[1], n[2], n[3], n[4], n[5], n[6])
}

/** How the next token is chosen; the defaults choose the most probable one. */
data class Sampling(
    val temperature: Float = 0f,
    val topK: Int = 0,
    val topP: Float = 0f,
    val minP: Float = 0f,
    val repetitionPenalty: Float = 0f,
    val presencePenalty: Float = 0f,
    val frequencyPenalty: Float = 0f,
    val penaltyWindow: Int = 0,
    /** The draws depend on seed and position only. */
    val seed: Long = 0,
    /** Added to logits of these ids; negative infinity forbids a token. */
    val bias: Map<Int, Float> = emptyMap(),
)

data class GenerateOptions(
    /** 0: until the context is full. */
    val maxTokens: Long = 0,
    val sampling: Sampling = Sampling(),
    /** Go on behind end tokens. */
    val ignoreEnd: Boolean = false,
    /** Texts that end the answer; they are not delivered. */
    val stop: List<String> = emptyList(),
    /** What the answer must follow. */
    val grammar: Grammar? = null,
    /** The ids belong to the answer under way, such as after a rollback. */
    val grammarGoesOn: Boolean = false,
    /** How many of the most probable tokens come with each token, 0 to 256. */
    val logprobs: Int = 0,
    /**
     * Sees each token on the session's thread, before the flow's collector does; false ends the
     * answer behind it.
     */
    val onToken: ((Token) -> Boolean)? = null,
    /** Tokens of the prompt that are done, and all, on the session's thread; false cancels. */
    val onProgress: ((done: Long, total: Long) -> Boolean)? = null,
) {
    internal fun numbers(grammar: Long) =
        longArrayOf(
            maxTokens,
            if (ignoreEnd) 1 else 0,
            grammar,
            if (grammarGoesOn) 1 else 0,
            logprobs.toLong(),
            sampling.topK.toLong(),
            sampling.penaltyWindow.toLong(),
            sampling.seed,
        )

    internal fun rates() = sampling.run {
        floatArrayOf(temperature, topP, minP, repetitionPenalty, presencePenalty, frequencyPenalty)
    }

    internal val biasIds
        get() = sampling.bias.keys.toIntArray()

    internal val biases
        get() = sampling.bias.values.toFloatArray()
}

data class Logprob(val id: Int, val logprob: Float)

/** A new token and the text that became certain with it: whole characters, often none. */
class Token
internal constructor(
    val id: Int,
    val text: String,
    /** Natural logarithm; NaN where it was not asked for. */
    val logprob: Float,
    val best: List<Logprob>,
)

/**
 * [role] is a name such as system, user, assistant or tool; [content] never becomes special tokens,
 * whatever it says.
 */
data class Message(val role: String, val content: String)

/**
 * What [Session.chat] did: tokens that were there already, taken back, fed before the answer, and
 * the answer's.
 */
data class ChatResult(val kept: Long, val dropped: Long, val fed: Long, val generated: Long)

/** Tokens in the stream; tokens and passes of all calls, and the time in them. */
data class Stats(val position: Long, val tokens: Long, val passes: Long, val nanoseconds: Long)

/** Of a session on a device; on the CPU [device] is "" and all numbers are 0. */
data class BackendInfo(
    val device: String,
    val deviceBytes: Long,
    val submissions: Long,
    val recordings: Long,
    val cpuOperators: Long,
    val copiedBytes: Long,
    val driverNanoseconds: Long,
    val pipelineNanoseconds: Long,
    val pipelines: Long,
    val pipelinesCached: Long,
    val importedBytes: Long,
)

/** The rows of hidden states that count; of the model: as it says. */
enum class Pooling {
    OF_MODEL,
    LAST,
    MEAN,
    FIRST,
}

/**
 * A saved stream: the options of the session that saved it as far as the states depend on them, and
 * its tokens.
 */
data class SavedStream(val options: SessionOptions, val position: Long)
