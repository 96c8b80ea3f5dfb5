package org.runnel.example

import android.app.Activity
import android.os.Bundle
import android.view.ViewGroup.LayoutParams.MATCH_PARENT
import android.view.ViewGroup.LayoutParams.WRAP_CONTENT
import android.widget.Button
import android.widget.EditText
import android.widget.LinearLayout
import android.widget.ScrollView
import android.widget.TextView
import java.io.IOException
import java.util.Locale
import kotlinx.coroutines.MainScope
import kotlinx.coroutines.cancel
import kotlinx.coroutines.launch
import org.runnel.RunnelException
import org.runnel.Status

/** A conversation: what was said, how fast and in how many bytes, a line to write in. */
class MainActivity : Activity() {
    private val scope = MainScope()
    private var talk: Talk? = null
    private lateinit var transcript: TextView
    private lateinit var status: TextView
    private lateinit var input: EditText
    private lateinit var send: Button
    private lateinit var stop: Button

    override fun onCreate(state: Bundle?) {
        super.onCreate(state)
        setContentView(layout())
        enable(isLoaded = false, isAnswering = false)
        scope.launch {
            try {
                talk =
                    (application as TalkApplication).talk { done, total ->
                        runOnUiThread {
                            status.text = "model: ${megabytes(done)} of ${megabytes(total)} MB"
                        }
                    }
                begin(talk!!)
            } catch (e: RunnelException) {
                status.text = e.message
            } catch (e: IOException) {
                status.text = e.message
            }
        }
    }

    private fun layout() =
        LinearLayout(this).apply {
            orientation = LinearLayout.VERTICAL
            fitsSystemWindows = true
            transcript =
                TextView(context).apply {
                    setTextIsSelectable(true)
                    setPadding(24, 24, 24, 24)
                }
            status =
                TextView(context).apply {
                    textSize = 12f
                    setPadding(24, 0, 24, 0)
                }
            input =
                EditText(context).apply {
                    hint = "Say something"
                    maxLines = 4
                }
            send =
                Button(context).apply {
                    text = "Send"
                    setOnClickListener { send() }
                }
            stop =
                Button(context).apply {
                    text = "Stop"
                    setOnClickListener { talk?.stop() }
                }
            addView(
                ScrollView(context).apply { addView(transcript) },
                LinearLayout.LayoutParams(MATCH_PARENT, 0, 1f),
            )
            addView(status, LinearLayout.LayoutParams(MATCH_PARENT, WRAP_CONTENT))
            addView(
                LinearLayout(context).apply {
                    addView(input, LinearLayout.LayoutParams(0, WRAP_CONTENT, 1f))
                    addView(send, LinearLayout.LayoutParams(WRAP_CONTENT, WRAP_CONTENT))
                    addView(stop, LinearLayout.LayoutParams(WRAP_CONTENT, WRAP_CONTENT))
                },
                LinearLayout.LayoutParams(MATCH_PARENT, WRAP_CONTENT),
            )
        }

    private fun begin(talk: Talk) {
        transcript.text =
            talk.messages.joinToString("") {
                if (it.role == "user") "\n> ${it.content}\n" else it.content + "\n"
            }
        status.text = "${talk.model.info.name}: ${bytes(talk)}"
        enable(isLoaded = true, isAnswering = false)
    }

    private fun send() {
        val talk = talk ?: return
        val said = input.text.toString().trim()
        if (said.isEmpty()) return
        input.text.clear()
        transcript.append("\n> $said\n")
        enable(isLoaded = true, isAnswering = true)
        // The application's scope: an answer goes on while the screen turns.
        (application as TalkApplication).scope.launch {
            try {
                talk.answer(said) { part, speed ->
                    transcript.append(part)
                    status.text =
                        String.format(Locale.ROOT, "%.1f tokens/s, %s", speed, bytes(talk))
                }
            } catch (e: RunnelException) {
                if (e.status != Status.CANCELLED) status.text = e.message
            }
            transcript.append("\n")
            enable(isLoaded = true, isAnswering = false)
        }
    }

    private fun bytes(talk: Talk) =
        talk.memory.let {
            "${megabytes(it.anonymous)} MB own, ${megabytes(it.weights + it.tokenizer)} MB of the file"
        }

    private fun megabytes(bytes: Long) = String.format(Locale.ROOT, "%.1f", bytes / 1e6)

    private fun enable(isLoaded: Boolean, isAnswering: Boolean) {
        send.isEnabled = isLoaded && !isAnswering
        stop.isEnabled = isAnswering
    }

    override fun onStop() {
        super.onStop()
        if (!isChangingConfigurations) talk?.onStop()
    }

    override fun onDestroy() {
        scope.cancel()
        super.onDestroy()
    }
}
