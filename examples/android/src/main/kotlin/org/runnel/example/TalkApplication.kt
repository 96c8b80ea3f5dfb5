package org.runnel.example

import android.app.Application
import android.content.pm.PackageManager
import android.system.Os
import android.util.Log
import java.io.File
import java.io.IOException
import java.net.URL
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.SupervisorJob
import kotlinx.coroutines.sync.Mutex
import kotlinx.coroutines.sync.withLock
import org.runnel.Engine
import org.runnel.ModelFile

/**
 * Holds the conversation over activities that come and go. It is never unloaded while the process
 * lives.
 */
class TalkApplication : Application() {
    val scope = CoroutineScope(SupervisorJob() + Dispatchers.Main)
    private val mutex = Mutex()
    private var talk: Talk? = null

    override fun onCreate() {
        super.onCreate()
        // Where the library keeps what it measured of this device's cores and its GPU's compiled
        // programs.
        Os.setenv("RUNNEL_CACHE_DIR", File(cacheDir, "runnel").path, true)
    }

    suspend fun talk(onProgress: (done: Long, total: Long) -> Unit): Talk = mutex.withLock {
        talk
            ?: Talk.open(Engine(), modelFile(onProgress), filesDir, scope) { Log.w("runnel", it) }
                .also { talk = it }
    }

    /** model.rnl in the app's folder, pushed there by a developer or downloaded. */
    private suspend fun modelFile(onProgress: (Long, Long) -> Unit): File {
        val pushed = File(getExternalFilesDir(null), "model.rnl")
        if (pushed.exists()) return pushed
        val from =
            packageManager
                .getApplicationInfo(packageName, PackageManager.GET_META_DATA)
                .metaData
                ?.getString("model")
                .orEmpty()
                .split(' ')
        if (from.size != 3)
            throw IOException(
                "There is no model. adb push MODEL.rnl $pushed, or name one in AndroidManifest.xml."
            )
        return ModelFile(URL(from[0]), File(filesDir, "model.rnl"), from[1].toLong(), from[2])
            .fetch(onProgress = onProgress)
    }

    override fun onTrimMemory(level: Int) {
        super.onTrimMemory(level)
        talk?.onTrimMemory(level)
    }
}
