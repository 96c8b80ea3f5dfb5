package org.runnel

import java.io.File
import java.io.FileOutputStream
import java.io.IOException
import java.net.HttpURLConnection
import java.net.URL
import java.security.MessageDigest
import kotlin.coroutines.coroutineContext
import kotlinx.coroutines.CoroutineStart
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.awaitCancellation
import kotlinx.coroutines.coroutineScope
import kotlinx.coroutines.delay
import kotlinx.coroutines.ensureActive
import kotlinx.coroutines.launch
import kotlinx.coroutines.withContext

/**
 * A model file that an app downloads once. [file] exists only whole and proved: what has come so
 * far lies beside it (`.part`) and is gone on from, in this process or a later one; when its size
 * and SHA-256 are right it gets the file's name.
 */
class ModelFile(private val url: URL, val file: File, private val bytes: Long, sha256: String) {
    private val sha256 = sha256.lowercase()
    private val part = File(file.path + ".part")

    init {
        require(this.sha256.matches(Regex("[0-9a-f]{64}"))) {
            "a SHA-256 has 64 hexadecimal digits"
        }
    }

    val isReady: Boolean
        get() = file.length() == bytes

    /**
     * Gives the file, after downloading what is missing. A connection that breaks is tried again,
     * [attempts] times in a row without a byte; then the IOException goes to the caller. A file
     * with other bytes than it should have is removed and refused with an IOException.
     */
    suspend fun fetch(
        attempts: Int = 3,
        onProgress: (done: Long, total: Long) -> Unit = { _, _ -> },
    ): File =
        withContext(Dispatchers.IO) {
            if (isReady) return@withContext file
            if (part.length() > bytes) part.delete()
            var left = attempts
            while (part.length() < bytes) {
                val before = part.length()
                try {
                    download(onProgress)
                } catch (e: IOException) {
                    coroutineContext.ensureActive()
                    left = if (part.length() > before) attempts else left - 1
                    if (e is Refused || left <= 0) throw e
                    delay(RETRY_MILLISECONDS)
                }
            }
            prove()
            file
        }

    /** The server will not change its mind. */
    private class Refused(message: String) : IOException(message)

    /** Appends what the server gives until it ends. */
    private suspend fun download(onProgress: (Long, Long) -> Unit) {
        val begin = part.length()
        file.absoluteFile.parentFile?.let { folder ->
            folder.mkdirs()
            if (folder.usableSpace in 1 until bytes - begin)
                throw Refused(
                    "$file: ${bytes - begin} bytes are missing and ${folder.usableSpace} are free"
                )
        }
        val connection =
            (url.openConnection() as HttpURLConnection).apply {
                connectTimeout = TIMEOUT_MILLISECONDS
                readTimeout = TIMEOUT_MILLISECONDS
                setRequestProperty("Accept-Encoding", "identity")
                if (begin > 0) setRequestProperty("Range", "bytes=$begin-")
            }
        unlessCancelled({ connection.disconnect() }) {
            when (val code = connection.responseCode) {
                HttpURLConnection.HTTP_PARTIAL ->
                    if (
                        connection.getHeaderField("Content-Range")?.startsWith("bytes $begin-") !=
                            true
                    )
                        throw Refused("$url: another range than was asked for")
                HttpURLConnection.HTTP_OK ->
                    part.delete() // the server does not resume: from the beginning
                RANGE_NOT_SATISFIABLE -> {
                    part.delete()
                    throw IOException("$url: the server has no bytes from $begin on")
                }
                in 400..499 -> throw Refused("$url: HTTP $code")
                else -> throw IOException("$url: HTTP $code")
            }
            append(connection, onProgress)
        }
    }

    private suspend fun append(connection: HttpURLConnection, onProgress: (Long, Long) -> Unit) {
        val buffer = ByteArray(BUFFER_BYTES)
        FileOutputStream(part, true).use { out ->
            var done = part.length()
            connection.inputStream.use { input ->
                while (true) {
                    coroutineContext.ensureActive()
                    val n = input.read(buffer)
                    if (n < 0) break
                    if (done + n > bytes) throw tooLong()
                    out.write(buffer, 0, n)
                    done += n
                    onProgress(done, bytes)
                }
            }
            out.fd.sync()
            if (done < bytes)
                throw IOException("$url: the connection ended after $done of $bytes bytes")
        }
    }

    private fun tooLong(): IOException {
        part.delete()
        return Refused("$url: more than the $bytes bytes that the model has")
    }

    private suspend fun prove() {
        val digest = MessageDigest.getInstance("SHA-256")
        val buffer = ByteArray(BUFFER_BYTES)
        part.inputStream().use { input ->
            while (true) {
                coroutineContext.ensureActive()
                val n = input.read(buffer)
                if (n < 0) break
                digest.update(buffer, 0, n)
            }
        }
        val found = digest.digest().joinToString("") { "%02x".format(it) }
        if (found != sha256) {
            part.delete()
            throw IOException("$url: SHA-256 is $found instead of $sha256; the file was removed")
        }
        if (!part.renameTo(file)) throw IOException("$part cannot be renamed to $file")
    }

    /**
     * A blocking read does not see a cancelled coroutine: [end] breaks it off (on Android;
     * elsewhere it may wait for its timeout).
     */
    private suspend fun unlessCancelled(end: () -> Unit, block: suspend () -> Unit) =
        coroutineScope {
            val watch =
                launch(Dispatchers.IO, CoroutineStart.UNDISPATCHED) {
                    try {
                        awaitCancellation()
                    } finally {
                        end()
                    }
                }
            try {
                block()
            } finally {
                watch.cancel()
            }
        }

    private companion object {
        const val BUFFER_BYTES = 1 shl 16
        const val TIMEOUT_MILLISECONDS = 20_000
        const val RETRY_MILLISECONDS = 1_000L
        const val RANGE_NOT_SATISFIABLE = 416
    }
}
