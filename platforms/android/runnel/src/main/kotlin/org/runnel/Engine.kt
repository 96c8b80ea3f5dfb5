package org.runnel

import java.io.Closeable

/**
 * The threads that compute; an app wants one. [threads] 0: as many as there are fast cores, at
 * most 4.
 */
class Engine(threads: Int = 0) : Closeable {
    internal val handle =
        Handle("engine", Native.engineCreate(threads)) { Native.engineDestroy(it) }
    private val forget = Net.watch(this, handle)

    /** All of them, the caller's included. */
    val threads: Int
        get() = handle.use { Native.engineThreads(it) }

    /** Models and sessions of this engine go on. */
    override fun close() {
        forget()
        handle.close()
    }
}
