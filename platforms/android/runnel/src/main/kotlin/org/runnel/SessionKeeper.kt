package org.runnel

import java.io.Closeable
import java.io.File
import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.CoroutineStart
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.Job
import kotlinx.coroutines.launch
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.sync.Mutex
import kotlinx.coroutines.sync.withLock
import kotlinx.coroutines.withContext

/** Levels of ComponentCallbacks2.onTrimMemory, which are numbers of Android. */
object TrimLevel {
    const val RUNNING_MODERATE = 5
    const val RUNNING_LOW = 10
    const val RUNNING_CRITICAL = 15
    const val UI_HIDDEN = 20
    const val BACKGROUND = 40
    const val MODERATE = 60
    const val COMPLETE = 80

    fun asksForMemory(level: Int): Boolean = level >= RUNNING_LOW && level != UI_HIDDEN
}

/**
 * Keeps a session's stream over the life of an app's process, in [file]: restored when the app
 * begins, saved whenever it leaves the screen, since the process may then end without a word. Knows
 * nothing of Android: its activity calls [restore], [onStop], [onTrimMemory] and [close].
 * [onFailure] hears why a save in the background failed, such as a full disk; the app goes on.
 */
class SessionKeeper(
    private val session: Session,
    private val file: File,
    private val scope: CoroutineScope,
    private val onFailure: (Exception) -> Unit,
) : Closeable {
    private val mutex = Mutex()
    private var saved: Stats? = null

    /**
     * Brings back what was saved, if it fits: gives the stream's tokens. 0: there was nothing, or
     * it was another model's or is damaged; then it is removed and the stream begins anew.
     */
    suspend fun restore(): Long = alone {
        if (!file.exists()) return@alone 0
        try {
            session.restore(file)
        } catch (e: RunnelException) {
            if (e.status != Status.STATE_MISMATCH) throw e
            file.delete()
            return@alone 0
        }
        session.stats().also { saved = it }.position
    }

    /** Saves the stream if it has changed; a stream that holds nothing removes the file. */
    suspend fun save(): Unit = alone {
        val now = session.stats()
        if (now == saved) return@alone
        if (now.position == 0L) file.delete() else session.save(file)
        saved = now
    }

    /**
     * Saves without waiting. An answer under way is stopped first, unless [goesOn] (for apps whose
     * service goes on in the background): it ends with [Status.CANCELLED] behind the last token
     * that it delivered, and a call without a prompt goes on with it later.
     */
    fun onStop(goesOn: Boolean = false): Job {
        if (!goesOn) session.cancel()
        return scope.launch(start = CoroutineStart.UNDISPATCHED) { tell { save() } }
    }

    /** Gives memory back where the level asks for it; never the stream. */
    fun onTrimMemory(level: Int): Boolean = session.trim(level)

    /**
     * Stops what runs, saves, and closes the session, for onDestroy: takes what a save takes, tens
     * of milliseconds.
     */
    override fun close() {
        session.cancel()
        runBlocking { tell { save() } }
        session.close()
    }

    // Not on the caller's thread, which may wait in close() for a save that another call began.
    private suspend fun <T> alone(block: suspend () -> T): T =
        withContext(Dispatchers.IO) { mutex.withLock { block() } }

    private suspend fun tell(block: suspend () -> Unit) =
        try {
            block()
        } catch (e: RunnelException) {
            onFailure(e)
        } catch (e: CancellationException) {
            throw e
        } catch (e: IllegalStateException) { // the session is closed
            onFailure(e)
        }
}
