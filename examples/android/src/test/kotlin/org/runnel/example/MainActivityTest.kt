package org.runnel.example

import android.os.Looper
import android.view.View
import android.view.ViewGroup
import android.widget.Button
import android.widget.EditText
import android.widget.TextView
import java.io.File
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.robolectric.android.controller.ActivityController
import org.robolectric.annotation.Config

/**
 * The app as its user meets it: the framework is Robolectric's, the library and the model are real.
 */
@RunWith(RobolectricTestRunner::class)
@Config(sdk = [35], application = TalkApplication::class, manifest = Config.NONE)
class MainActivityTest {
    private val application
        get() = RuntimeEnvironment.getApplication() as TalkApplication

    private lateinit var activity: ActivityController<MainActivity>

    private fun views(v: View): List<View> =
        if (v is ViewGroup) (0 until v.childCount).flatMap { views(v.getChildAt(it)) }
        else listOf(v)

    private val all
        get() = views(activity.get().window.decorView)

    private fun button(text: String) =
        all.filterIsInstance<Button>().first { it.text.toString() == text }

    private val input
        get() = all.filterIsInstance<EditText>().single()

    private val texts
        get() =
            all.filter { it.javaClass == TextView::class.java }
                .map { (it as TextView).text.toString() }

    private val transcript
        get() = texts[texts.size - 2]

    private val status
        get() = texts.last()

    private fun waitFor(what: String, condition: () -> Boolean) {
        repeat(6000) {
            if (condition()) return
            shadowOf(Looper.getMainLooper()).idle()
            Thread.sleep(5)
        }
        throw AssertionError("$what; the screen says $texts")
    }

    private fun start() {
        activity =
            Robolectric.buildActivity(MainActivity::class.java).create().start().resume().visible()
    }

    private fun push(model: String) =
        File(System.getProperty("runnel.models"), "$model.rnl")
            .copyTo(File(application.getExternalFilesDir(null), "model.rnl"), overwrite = true)

    private fun say(text: String) {
        input.setText(text)
        button("Send").performClick()
    }

    @Test
    fun withoutAModelItSaysSo() {
        start()
        waitFor("a message") { "There is no model" in status }
        assertFalse(button("Send").isEnabled)
    }

    @Test
    fun talksAndKeepsTheConversation() {
        push("llama")
        start()
        waitFor("the model") { button("Send").isEnabled }
        assertTrue(status, "MB own" in status && "of the file" in status)
        say("Hello 😀")
        assertFalse(button("Send").isEnabled)
        waitFor("an answer") { button("Send").isEnabled }
        assertTrue(transcript, transcript.startsWith("\n> Hello 😀\n") && transcript.length > 20)
        assertTrue(status, Regex("""\d+\.\d tokens/s, .*MB own.*""").matches(status))
        val said = transcript

        // The app leaves the screen; what it kept is there when its process begins anew.
        activity.pause().stop()
        val state = File(application.filesDir, "talk.state")
        waitFor("a saved state") { state.length() > 1000 }
        application.onTrimMemory(40)
        activity.destroy()
        TalkApplication::class
            .java
            .getDeclaredField("talk")
            .apply { isAccessible = true }
            .set(application, null)
        start()
        waitFor("the model") { button("Send").isEnabled }
        assertEquals(said.trim(), transcript.trim())
        say("And?")
        waitFor("an answer") { button("Send").isEnabled }
        assertTrue(transcript.length > said.length + 6)
    }

    @Test
    fun stopsWhenAsked() {
        push("griffin")
        start()
        waitFor("the model") { button("Send").isEnabled }
        say("Hello")
        waitFor("the first text") { transcript.length > "\n> Hello\n".length }
        button("Stop").performClick()
        waitFor("the end") { button("Send").isEnabled }
        assertFalse(button("Stop").isEnabled)
    }
}
