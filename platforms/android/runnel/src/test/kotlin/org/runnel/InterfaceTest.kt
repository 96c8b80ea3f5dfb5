package org.runnel

import java.io.File
import kotlin.test.assertEquals
import kotlin.test.assertTrue
import org.junit.jupiter.api.Test

/** The binding has all of runnel.h, or says here why not. */
class InterfaceTest {
    private val root = File(System.getProperty("runnel.root"))
    private val header =
        File(root, "runtime/include/runnel/runnel.h")
            .readText()
            .replace(Regex("""/\*.*?\*/""", RegexOption.DOT_MATCHES_ALL), "")
    private val binding =
        File(root, "platforms/android/runnel/src/main/cpp")
            .listFiles { f -> f.extension in listOf("h", "cpp") }!!
            .joinToString("\n") { it.readText() }

    private val functionsLeftOut =
        mapOf(
            "rnl_session_run_blocks" to "rnl_session_run_named_blocks without names is the same",
            "rnl_session_generate_parts" to
                "features in the place of ids come with models that see or hear, none of which the library runs whole yet",
            "rnl_session_set_trace" to
                "a call into Java after every operator costs more than most operators; runnel run --trace measures",
        )
    private val fieldsLeftOut =
        mapOf(
            "state_memory" to
                "what the library allocates comes from the system in pages and goes back there; direct buffers go when the collector likes",
            "arena_memory" to "likewise",
        ) +
            listOf(
                    "placeholder",
                    "program",
                    "width",
                    "positions",
                    "axes",
                    "message",
                    "type",
                    "features",
                    "parts",
                    "part_count",
                )
                .associateWith { "of rnl_session_generate_parts and of messages in parts" }

    @Test
    fun `functions`() {
        val functions =
            Regex("""RNL_API [^;]*?\b(rnl_\w+)\(""")
                .findAll(header)
                .map { it.groupValues[1] }
                .toList()
        assertTrue(functions.size > 50 && functions.toSet().size == functions.size)
        assertEquals(
            functionsLeftOut.keys,
            functions.filterNot { Regex("\\b$it\\b").containsMatchIn(binding) }.toSet(),
        )
    }

    @Test
    fun `fields of structs`() {
        val fields =
            Regex("""typedef struct rnl_\w+ \{(.*?)\}""", RegexOption.DOT_MATCHES_ALL)
                .findAll(header)
                .flatMap { it.groupValues[1].split(';') }
                .flatMap { line ->
                    line.substringBefore('[').split(',').map {
                        it.trim().substringAfterLast(' ').trimStart('*')
                    }
                }
                .filter { it.isNotEmpty() && it != "struct_size" }
                .toSet()
        assertTrue(fields.size > 80, "$fields")
        // Aggregates of the binding are written in the header's order, without names.
        val inOrder = setOf("role", "content", "text", "truth", "name", "bias", "id")
        assertEquals(
            fieldsLeftOut.keys,
            fields
                .filterNot { it in inOrder || Regex("""(\.|->)$it\b""").containsMatchIn(binding) }
                .toSet(),
        )
    }

    @Test
    fun `numbers of enums`() {
        fun numbers(name: String) =
            Regex("""typedef enum $name \{(.*?)\}""", RegexOption.DOT_MATCHES_ALL)
                .find(header)!!
                .groupValues[1]
                .split(',')
                .map { it.split('=').map(String::trim) }
                .filter { it.size == 2 }
                .associate { it[0] to it[1].toInt() }
        fun <E : Enum<E>> same(
            name: String,
            prefix: String,
            values: List<E>,
            code: (E) -> Int = { it.ordinal },
        ) = assertEquals(numbers(name), values.associate { prefix + it.name to code(it) }, name)
        same("rnl_status_code", "RNL_", Status.entries - Status.UNKNOWN)
        same("rnl_dtype", "RNL_", DType.entries) { it.code }
        same("rnl_role", "RNL_ROLE_", Role.entries)
        same("rnl_symbol_kind", "RNL_SYMBOL_", SymbolKind.entries)
        same("rnl_state_kind", "RNL_STATE_", StateKind.entries)
        same("rnl_backend", "RNL_BACKEND_", Backend.entries)
        same("rnl_pooling", "RNL_POOLING_", Pooling.entries)
    }
}
