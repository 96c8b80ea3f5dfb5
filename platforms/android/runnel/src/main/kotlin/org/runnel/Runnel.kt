package org.runnel

/** The library as a whole. */
object Runnel {
    /** Of the library, such as "0.1.0". */
    val version: String
        get() = Native.versions()[0].decodeToString()

    /** Of the files that it writes and reads, such as "1.0". */
    val formatVersion: String
        get() = Native.versions()[1].decodeToString()

    /**
     * Receives notices (work-arounds that were chosen, fallbacks) and whether each is a warning, on
     * any thread. Null: nobody does.
     */
    @Volatile var log: ((isWarning: Boolean, message: String) -> Unit)? = null

    /**
     * A description of each Vulkan device, usable or not. [Status.UNSUPPORTED]: the library was
     * built without Vulkan; [Status.NOT_FOUND]: the device has no driver.
     */
    fun vulkanDevices(): List<String> {
        val lines = mutableListOf<String>()
        Native.vulkanDevices(
            object : Sink() {
                override fun onLine(line: ByteArray) {
                    lines += line.decodeToString()
                }
            }
        )
        return lines
    }
}

/** Why a call failed; in the order of rnl_status_code. */
enum class Status {
    OK,
    INVALID_ARGUMENT,
    NOT_FOUND,
    IO,
    INVALID_MODEL,
    UNSUPPORTED,
    OUT_OF_MEMORY,
    BUDGET_EXCEEDED,
    CONTEXT_FULL,
    CANCELLED,
    DEVICE_LOST,
    NON_FINITE,
    ROLLBACK_RANGE,
    STATE_MISMATCH,
    INTERNAL,
    /** A code of a newer library. */
    UNKNOWN,
}

/**
 * A call failed; the message tells what and where. A failed call changes nothing unless its comment
 * says otherwise.
 */
class RunnelException internal constructor(val status: Status, message: String) :
    RuntimeException(message) {
    /** For the native side. */
    @Suppress("unused")
    internal constructor(
        code: Int,
        message: ByteArray,
    ) : this(Status.entries.getOrElse(code) { Status.UNKNOWN }, message.decodeToString())
}
