package org.runnel.example

import java.io.File
import kotlinx.coroutines.CoroutineScope
import org.json.JSONArray
import org.json.JSONObject
import org.runnel.Engine
import org.runnel.GenerateOptions
import org.runnel.Memory
import org.runnel.Message
import org.runnel.Model
import org.runnel.Sampling
import org.runnel.Session
import org.runnel.SessionKeeper
import org.runnel.SessionOptions

/**
 * One conversation with one model: its messages and the stream that holds them, both kept in
 * [folder].
 */
class Talk
private constructor(
    val model: Model,
    private val session: Session,
    folder: File,
    scope: CoroutineScope,
    onFailure: (Exception) -> Unit,
) {
    private val text = File(folder, "talk.json")
    private val keeper = SessionKeeper(session, File(folder, "talk.state"), scope, onFailure)
    val messages: MutableList<Message> = mutableListOf()
    val memory: Memory
        get() = session.memory

    /**
     * Answers [said]; each new part of the answer comes to [onText] with the speed so far, in
     * tokens a second.
     */
    suspend fun answer(said: String, onText: (part: String, speed: Double) -> Unit) {
        messages += Message("user", said)
        val answer = session.chat(messages, OPTIONS)
        messages += Message("assistant", "")
        var begin = 0L
        var before = 0L
        answer.collect { part ->
            val tokens = session.stats().tokens
            if (begin == 0L) {
                begin = System.nanoTime()
                before = tokens
            }
            // Kept as it comes: what is stopped is in the stream too.
            messages[messages.lastIndex] = Message("assistant", messages.last().content + part)
            onText(part, (tokens - before) * 1e9 / (System.nanoTime() - begin).coerceAtLeast(1))
        }
    }

    fun stop() = session.cancel()

    suspend fun clear() {
        messages.clear()
        text.delete()
        session.reset()
    }

    fun onStop() {
        text.writeText(
            JSONArray(messages.map { JSONObject().put("role", it.role).put("content", it.content) })
                .toString()
        )
        keeper.onStop()
    }

    fun onTrimMemory(level: Int) = keeper.onTrimMemory(level)

    private suspend fun restore() {
        if (!text.exists()) return
        val all = JSONArray(text.readText())
        for (i in 0 until all.length()) all.getJSONObject(i).let {
            messages += Message(it.getString("role"), it.getString("content"))
        }
        // Without the stream, or with an older one, the next answer feeds what it lacks.
        keeper.restore()
    }

    companion object {
        private val OPTIONS =
            GenerateOptions(
                maxTokens = 512,
                sampling = Sampling(temperature = 0.7f, topP = 0.95f, seed = System.nanoTime()),
            )

        suspend fun open(
            engine: Engine,
            file: File,
            folder: File,
            scope: CoroutineScope,
            onFailure: (Exception) -> Unit,
        ): Talk {
            val model = Model.open(engine, file)
            return Talk(
                    model,
                    model.session(SessionOptions(context = minOf(model.info.context, 4096))),
                    folder,
                    scope,
                    onFailure,
                )
                .apply { restore() }
        }
    }
}
