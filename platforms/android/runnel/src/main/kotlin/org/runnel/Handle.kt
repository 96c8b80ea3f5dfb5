package org.runnel

import java.lang.ref.PhantomReference
import java.lang.ref.ReferenceQueue
import java.util.Collections
import java.util.concurrent.ConcurrentHashMap
import java.util.concurrent.locks.ReentrantLock
import kotlin.concurrent.thread
import kotlin.concurrent.withLock

/**
 * A native object and who uses it. It is freed once: when it is closed and no call uses it any
 * more. After that, and from the close on, [use] throws. [name] is for the message; [memory] is
 * kept as long as the object, which reads it.
 */
internal class Handle(
    private val name: String,
    private val pointer: Long,
    val memory: Any? = null,
    private val free: (Long) -> Unit,
) {
    private val lock = ReentrantLock()
    private val freed = lock.newCondition()
    private var users = 0
    private var isClosed = false
    private var isFreed = false

    fun <T> use(block: (Long) -> T): T {
        lock.withLock {
            check(!isClosed) { "this $name is closed" }
            ++users
        }
        try {
            return block(pointer)
        } finally {
            if (lock.withLock { --users == 0 && isClosed }) freeNow()
        }
    }

    /** Returns at once; the last user frees the object. */
    fun close() {
        val isLast = lock.withLock { !isClosed.also { isClosed = true } && users == 0 }
        if (isLast) freeNow()
    }

    /** After [close]: until the object is freed. */
    fun awaitFreed() = lock.withLock { while (!isFreed) freed.awaitUninterruptibly() }

    private fun freeNow() {
        free(pointer)
        lock.withLock {
            isFreed = true
            freed.signalAll()
        }
    }
}

/**
 * The net for objects that nobody closed: their handles are closed some time after they became
 * unreachable.
 */
internal object Net {
    private class Watched(owner: Any, val handle: Handle) :
        PhantomReference<Any>(owner, unreachable)

    private val unreachable = ReferenceQueue<Any>()
    private val watched = Collections.newSetFromMap(ConcurrentHashMap<Watched, Boolean>())

    init {
        thread(isDaemon = true, name = "runnel-net") {
            while (true) (unreachable.remove() as Watched).let {
                watched.remove(it)
                it.handle.close()
            }
        }
    }

    /** Gives what to call when the owner was closed. */
    fun watch(owner: Any, handle: Handle): () -> Unit {
        val w = Watched(owner, handle)
        watched += w
        return {
            watched.remove(w)
            w.clear()
        }
    }
}
