package org.runnel

import java.util.concurrent.TimeUnit
import java.util.concurrent.locks.ReentrantLock
import kotlin.concurrent.thread
import kotlin.concurrent.withLock
import kotlin.coroutines.CoroutineContext
import kotlinx.coroutines.CoroutineDispatcher

/** A session's thread. It starts with the first call and ends when none has come for a while. */
internal class SessionThread : CoroutineDispatcher() {
    private val lock = ReentrantLock()
    private val changed = lock.newCondition()
    private val tasks = ArrayDeque<Runnable>()
    private var worker: Thread? = null
    private var isClosed = false

    val isCurrent: Boolean
        get() = lock.withLock { worker === Thread.currentThread() }

    override fun dispatch(context: CoroutineContext, block: Runnable) = lock.withLock {
        tasks.addLast(block)
        changed.signal()
        if (worker == null) worker = thread(isDaemon = true, name = "runnel-session") { work() }
    }

    /** What waits still runs; the thread then ends at once. */
    fun close() = lock.withLock {
        isClosed = true
        changed.signal()
    }

    private fun work() {
        while (true) {
            val task = next() ?: return
            try {
                task.run()
            } catch (t: Throwable) {
                Thread.currentThread().let { it.uncaughtExceptionHandler.uncaughtException(it, t) }
            }
        }
    }

    private fun next(): Runnable? = lock.withLock {
        var left = IDLE_NANOSECONDS
        while (tasks.isEmpty() && !isClosed && left > 0) left = changed.awaitNanos(left)
        tasks.removeFirstOrNull().also { if (it == null) worker = null }
    }

    private companion object {
        val IDLE_NANOSECONDS: Long = TimeUnit.SECONDS.toNanos(2)
    }
}
