package org.runnel.shrunk

import java.io.File
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.runBlocking
import org.runnel.Chat
import org.runnel.Engine
import org.runnel.GenerateOptions
import org.runnel.Message
import org.runnel.Model
import org.runnel.Runnel
import org.runnel.RunnelException
import org.runnel.Tensor

/** A small app whose shrunk form test.sh runs: each way in which the native side calls back. */
fun main(arguments: Array<String>) = runBlocking {
    Model.open(Engine(1), File(arguments[0])).use { model ->
        model.session().use { session ->
            println(
                session
                    .generateTokens(
                        model.tokenize("Grüße 😀"),
                        GenerateOptions(maxTokens = 8, ignoreEnd = true, logprobs = 2),
                    )
                    .toList()
                    .joinToString { "${it.id} ${it.best[1].id}" }
            )
            println(
                session
                    .run(
                        listOf(Tensor("ids", IntArray(600) { 40 })),
                        emptyMap(),
                        onProgress = { _, _ -> true },
                    )
                    .size
            )
            session.runBlocks(listOf(Tensor("ids", intArrayOf(41)))) { block, row ->
                println("$block $row")
                true
            }
            session.reset()
            println(
                session
                    .chat(
                        Chat(listOf(Message("user", "Hello"))),
                        GenerateOptions(maxTokens = 8, ignoreEnd = true),
                    )
                    .toList()
                    .joinToString("")
            )
            try {
                session.rollback(-1)
            } catch (e: RunnelException) {
                println("${e.status} ${e.message}")
            }
        }
    }
    println(Runnel.version)
}
