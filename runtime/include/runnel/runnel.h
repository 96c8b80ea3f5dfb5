/* Runnel: the C interface of librunnel. C11, no other header of ours is needed.
 *
 * Objects: an engine (threads) holds nothing else; a model is an opened file, shared by any number of sessions; a
 * session is one stream's state and working memory. They may be destroyed in any order, on any thread: a model lives
 * until its sessions and grammars are gone too, an engine until its models are. Memory that the caller lent must live
 * as long.
 *
 * Threads: an engine and a model may be used from any thread. A session is used by one thread at a time; only
 * rnl_session_cancel, rnl_session_clear_cancel and rnl_session_stats may be called from another thread meanwhile. A
 * call needs up to 64 KiB of stack, on a device what its driver needs.
 *
 * Callbacks run on the calling thread and must not throw or jump out. Within one, calls on its session are refused with
 * RNL_INVALID_ARGUMENT (those without a code do nothing), but for rnl_session_cancel, _clear_cancel, _stats and
 * _position; rnl_session_destroy takes effect when the running call returns. Other sessions may be used.
 *
 * Errors: every call that can fail returns a status code; rnl_last_error() then tells, on the same thread, what and
 * where. A failed call changes nothing unless its comment says otherwise. The library never ends the process and prints
 * nothing.
 *
 * Structs that callers fill in begin with struct_size = sizeof of the struct, which is refused when it is 0; zero in
 * any other field means its default. Newer fields are appended, so programs keep working with later libraries; an older
 * library refuses those of a newer header unless they are zero. Strings are UTF-8. Sizes are in bytes, times in
 * nanoseconds. */
#ifndef RUNNEL_RUNNEL_H
#define RUNNEL_RUNNEL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define RNL_API
#else
#define RNL_API __attribute__((visibility("default")))
#endif

typedef enum rnl_status_code {
  RNL_OK = 0,
  RNL_INVALID_ARGUMENT = 1, /* the caller's values: shapes, names, ranges */
  RNL_NOT_FOUND = 2,        /* file, program, tensor */
  RNL_IO = 3,
  RNL_INVALID_MODEL = 4, /* not a model, truncated, damaged */
  RNL_UNSUPPORTED = 5,   /* newer version, unknown operator or feature */
  RNL_OUT_OF_MEMORY = 6,
  RNL_BUDGET_EXCEEDED = 7, /* the message says how much is needed */
  RNL_CONTEXT_FULL = 8,
  RNL_CANCELLED = 9,
  RNL_DEVICE_LOST = 10,    /* the stream is as before the call, but for tokens that generate and chat delivered;
                              rnl_session_recover goes on on the CPU */
  RNL_NON_FINITE = 11,     /* an output held NaN or infinity; the stream is as before the call */
  RNL_ROLLBACK_RANGE = 12, /* further back than rollback_window */
  RNL_STATE_MISMATCH = 13, /* a saved state of another model or plan, or a damaged one */
  RNL_INTERNAL = 14
} rnl_status_code;

typedef struct rnl_engine rnl_engine;
typedef struct rnl_model rnl_model;
typedef struct rnl_session rnl_session;

/* Version of the library, such as "0.1.0", and of the file format that it writes, such as "1.0". Static memory. */
RNL_API const char* rnl_version(void);
RNL_API const char* rnl_format_version(void);
/* Message of the last failed call on this thread; valid until the next call on it. Never null. */
RNL_API const char* rnl_last_error(void);
/* Receives notices (work-arounds that were chosen, fallbacks). Silent by default. log null: silent again. Not to be
 * changed while other calls run. */
typedef void (*rnl_log_fn)(void* user, int level /* 0 info, 1 warning */, const char* message);
RNL_API void rnl_set_log(rnl_log_fn log, void* user);

/* ---- engine ---- */

typedef struct rnl_engine_options {
  size_t struct_size;
  int32_t threads; /* the caller's thread included, for everything, on any cores. 0: as many as there are fast cores, at
                      most 4 and no more than the control groups' CPU quota; beside small cores the library's threads
                      keep to the fast ones. Passes of one token, which are bound by memory, then use the fewest of them
                      that read weights as fast as any: with the engine's first session that is measured for some
                      milliseconds on 8 to 32 MiB, which are given back, and kept in the process and in a file in
                      RUNNEL_CACHE_DIR, XDG_CACHE_HOME/runnel or ~/.cache/runnel (RUNNEL_CACHE_DIR empty: in none). It
                      is not measured, and all are used, where the caches are larger than 16 MiB or little memory is
                      free */
} rnl_engine_options;

/* options may be null. */
RNL_API rnl_status_code rnl_engine_create(const rnl_engine_options* options, rnl_engine** engine);
RNL_API void rnl_engine_destroy(rnl_engine* engine);
/* All of them. */
RNL_API int32_t rnl_engine_threads(const rnl_engine* engine);

/* ---- model ---- */

typedef struct rnl_model_options {
  size_t struct_size;
  int32_t copy; /* 1: read the file into memory. 0: map it; a mapped file must not be changed in place while the model
                   is open */
  const char* adapter; /* null: none. A file of runnel-convert --adapter, made from the same source as the model's,
                          whose low-rank products are added. States are those of model and adapter together: they do not
                          fit the model without it */
} rnl_model_options;

/* options may be null. Opening maps the file and reads its header only. */
RNL_API rnl_status_code rnl_model_open(rnl_engine* engine, const char* path, const rnl_model_options* options,
                                       rnl_model** model);
/* data: 64-byte aligned, the caller's, alive until the model is closed. */
RNL_API rnl_status_code rnl_model_open_memory(rnl_engine* engine, const void* data, size_t size, rnl_model** model);
RNL_API void rnl_model_close(rnl_model* model);
/* Reads the whole file and compares its checksums. */
RNL_API rnl_status_code rnl_model_verify(const rnl_model* model);

typedef struct rnl_model_info {
  size_t struct_size;
  const char* name; /* all strings: never null, valid while the model is open */
  const char* architecture;
  const char* licence;
  const char* source;
  int64_t context;                    /* tokens; 0: not stated */
  int32_t vocabulary;                 /* pieces of the tokenizer, 0 without one */
  int32_t has_chat;                   /* 1: the model has a chat format */
  int32_t bos, eos;                   /* token ids, -1: none */
  int32_t embedding;                  /* floats of what rnl_session_embed gives; 0: the model gives no embeddings */
  int32_t format_major, format_minor; /* the file's version */
  const char* converter;              /* the program that made the file, with its version */
  const char* source_sha256;          /* of the checkpoint's tensors, in hexadecimal digits */
  uint64_t source_bytes;              /* of the checkpoint's files */
  uint64_t source_tensor_bytes;       /* of the tensors in them */
  uint64_t file_bytes;                /* of the model's file and the adapter's */
  uint64_t adapter_bytes;             /* of these, the adapter's; 0: there is none */
  const char* passes;                 /* what the conversion changed in the model, in words; empty: nothing */
} rnl_model_info;
RNL_API rnl_status_code rnl_model_get_info(const rnl_model* model, rnl_model_info* info);

typedef enum rnl_dtype {
  RNL_F32 = 1,
  RNL_F16 = 2,
  RNL_BF16 = 3,
  RNL_I32 = 4,
  RNL_I64 = 5,
  RNL_U8 = 6,
  RNL_I8 = 7,
  RNL_Q8 = 9
} rnl_dtype;

/* ---- a model's graph: what its programs take and give, and what a session keeps ----
 * Strings are never null and valid while the model is open. A size is an expression: an integer, a symbol's name, or
 * both with + - * ( ) and floordiv(a,b) ceildiv(a,b) mod(a,b) min(a,b) max(a,b). Beyond the last program, input,
 * output, symbol or state: RNL_NOT_FOUND. */

typedef struct rnl_program_info {
  size_t struct_size;
  const char* name;
  int32_t inputs, outputs;
  const char* stream; /* the symbol of the axis along which long calls are cut into passes; "": the program is no
                         stream's */
  const char* rows;   /* the symbol that counts the wanted rows of outputs; "": there is none */
} rnl_program_info;
RNL_API rnl_status_code rnl_model_program(const rnl_model* model, size_t index, rnl_program_info* info);

/* What the session fills in when a call leaves the input out: positions count from the stream's start, those of several
 * axes [tokens, axes] on behind the largest that was given; rows are the last token, context is the session's option.
 * Tokens are the stream's ids. */
typedef enum rnl_role {
  RNL_ROLE_NONE = 0,
  RNL_ROLE_TOKENS = 1,
  RNL_ROLE_POSITIONS = 2,
  RNL_ROLE_ROWS = 3,
  RNL_ROLE_CONTEXT = 4
} rnl_role;

typedef struct rnl_value_info {
  size_t struct_size;
  const char* name;
  int32_t dtype; /* rnl_dtype */
  int32_t rank;
  const char* sizes[6]; /* of each axis; "" behind the last */
  int32_t role;         /* rnl_role; outputs have none */
  int32_t optional;     /* 1: an input that a call may leave out, an output that a call gets when it names it */
} rnl_value_info;
/* program null: the first one. */
RNL_API rnl_status_code rnl_model_program_input(const rnl_model* model, const char* program, size_t index,
                                                rnl_value_info* info);
RNL_API rnl_status_code rnl_model_program_output(const rnl_model* model, const char* program, size_t index,
                                                 rnl_value_info* info);

/* An option is the session's option of that name (context, chunk, rows; rollback: what taking tokens back needs). An
 * axis is bound in each call by an input that has it as a size of its own, at most to its bound; the stream's may be
 * longer, or by a kept state. A result is bound by an operator, at most to its bound: how large such an output is is
 * known when the call has ended. */
typedef enum rnl_symbol_kind { RNL_SYMBOL_OPTION = 0, RNL_SYMBOL_AXIS = 1, RNL_SYMBOL_RESULT = 2 } rnl_symbol_kind;
typedef struct rnl_symbol_info {
  size_t struct_size;
  const char* name;
  int32_t kind;      /* rnl_symbol_kind */
  const char* bound; /* over the symbols before it; "" of an option */
} rnl_symbol_info;
RNL_API rnl_status_code rnl_model_symbol(const rnl_model* model, size_t index, rnl_symbol_info* info);

/* ring: the newest positions of the stream. append: all of them, up to the context. recurrent: replaced as a whole by
 * each call. kept: written by one program, which runs before the stream's first token, and read by others. first: the
 * stream's first positions. */
typedef enum rnl_state_kind {
  RNL_STATE_RING = 0,
  RNL_STATE_APPEND = 1,
  RNL_STATE_RECURRENT = 2,
  RNL_STATE_KEPT = 3,
  RNL_STATE_FIRST = 4
} rnl_state_kind;
typedef struct rnl_state_info {
  size_t struct_size;
  const char* name;
  int32_t kind;  /* rnl_state_kind */
  int32_t dtype; /* as the file says; rnl_session_options.kv may change that of ring, append and first states */
  int32_t rank;
  const char* sizes[6];
  int64_t window; /* positions that a ring's operators look back, 0: no window */
} rnl_state_info;
RNL_API rnl_status_code rnl_model_state(const rnl_model* model, size_t index, rnl_state_info* info);

/* ---- session ---- */

typedef enum rnl_backend { RNL_BACKEND_CPU = 0, RNL_BACKEND_VULKAN = 1 } rnl_backend;

typedef struct rnl_session_options {
  size_t struct_size;
  int64_t context; /* tokens that the stream may hold; 0: min(the model's, 4096). A stream of recurrences and windows
                      alone goes on beyond it without end, unless context is below some window; below window + chunk +
                      rollback_window its passes are shorter and less can be taken back */
  int64_t chunk;   /* tokens of one pass of a long call; 0: 256 */
  int64_t rows;    /* output rows of one pass of the output matrix; 0: 1. More rows cost arena */
  int64_t rollback_window; /* tokens that can be taken back, see rnl_session_rollback; 0: 64, -1: none. Recurrent states
                              are kept five times, without a window twice */
  int32_t kv;              /* RNL_F32, RNL_F16 or RNL_Q8; 0: as the model file says */
  uint64_t budget_bytes;   /* 0: no limit; else creation fails when rnl_memory.state and .arena need more together */
  void* state_memory;      /* null: the library allocates. Else rnl_memory.state bytes, aligned to 256 */
  void* arena_memory;      /* null: the library allocates. Else rnl_memory.arena bytes, aligned to 256 */
  int32_t backend; /* rnl_backend. Vulkan: on the device that RUNNEL_VULKAN_DEVICE names (a number or a part of its
                      name), else on the most capable one; operators without a kernel there run on the CPU */
  int64_t snapshot_every; /* of a session on a device: tokens that rnl_session_recover may have to compute again; 0:
                             256. Fewer cost more copies to the host */
} rnl_session_options;

typedef struct rnl_memory {
  size_t struct_size;
  uint64_t weights;   /* mapped, shared between sessions */
  uint64_t state;     /* the stream's state block */
  uint64_t arena;     /* activations and scratch */
  uint64_t packed;    /* copies of weights made for a library */
  uint64_t tokenizer; /* mapped vocabulary */
  uint64_t fixed;     /* tables of model, plan and session */
  uint64_t anonymous; /* of these, what no file stands behind, so that the system can only swap it: state, arena, packed
                         and fixed; weights and tokenizer too where rnl_model_options.copy read them. Memory that the
                         caller lends counts. Device memory (rnl_backend_info) comes on top */
} rnl_memory;

/* The exact sizes that a session with these options will have; nothing is allocated for it. options may be null. */
RNL_API rnl_status_code rnl_session_plan(const rnl_model* model, const rnl_session_options* options,
                                         rnl_memory* memory);
RNL_API rnl_status_code rnl_session_create(const rnl_model* model, const rnl_session_options* options,
                                           rnl_session** session);
RNL_API void rnl_session_destroy(rnl_session* session);
RNL_API rnl_status_code rnl_session_get_memory(const rnl_session* session, rnl_memory* memory);

typedef struct rnl_backend_info {
  size_t struct_size;
  const char* device;    /* never null, "" on the CPU; valid while the session is open */
  uint64_t device_bytes; /* buffers on the device: weights and copies under way (shared between sessions), states,
                            activations */
  uint64_t submissions, recordings;     /* command buffers given to the device and recorded */
  uint64_t cpu_operators, copied_bytes; /* operators that ran on the CPU in between, and what was copied for them */
  uint64_t driver_ns, pipeline_ns;      /* the driver's time to open the device and to make its pipelines so far */
  uint64_t pipelines, pipelines_cached; /* how many, and how many of them the driver says it found in the cache */
  uint64_t imported_bytes; /* of device_bytes, weights that are used in the mapped file's own pages and take no memory
                              again */
} rnl_backend_info;
RNL_API void rnl_session_get_backend(const rnl_session* session, rnl_backend_info* info);
/* Leaves the device for the CPU, where the session goes on from its present position. After RNL_DEVICE_LOST the host
 * computes from its last copy of the states what was fed since, at most snapshot_every tokens and those of one call;
 * other sessions on that device need a call of their own, new sessions open it anew. Of no effect on the CPU. May be
 * called again when it fails. */
RNL_API rnl_status_code rnl_session_recover(rnl_session* session);
/* Calls line() with a description of each Vulkan device, usable or not. RNL_UNSUPPORTED: the library was built without
 * Vulkan; RNL_NOT_FOUND: the machine has no driver. */
RNL_API rnl_status_code rnl_vulkan_devices(void (*line)(void* user, const char* text), void* user);

/* A dense row-major tensor of the caller. */
typedef struct rnl_tensor {
  const char* name;
  int32_t dtype; /* rnl_dtype */
  int32_t rank;  /* 0..6 */
  int64_t dims[6];
  void* data;
  size_t bytes; /* size of data; for outputs its capacity */
} rnl_tensor;

/* What a call with these inputs would give: fills in dtype, rank, dims and bytes of each named output and leaves its
 * data alone; nothing runs. Sizes that are results (RNL_SYMBOL_RESULT) count at their bounds: room for that is enough.
 * all_rows: as for rnl_session_run_blocks. Fails as the call would before it begins. */
RNL_API rnl_status_code rnl_session_output_shapes(rnl_session* session, const char* program, const rnl_tensor* inputs,
                                                  size_t input_count, int32_t all_rows, rnl_tensor* outputs,
                                                  size_t output_count);

/* Runs a program (null: the first one) on a call of any length: calls longer than `chunk` run in passes. Inputs are
 * matched by name. A language model takes ids [T] (i32 or i64) and optionally rows [R], the rising indices of the
 * tokens whose outputs are wanted (default: the last; R = 0: none). Outputs are copied to `outputs` by name; dims and
 * dtype are filled in. Language models have an optional output last_hidden_state f32 [R, width], what the output matrix
 * is multiplied with: naming it alone leaves the output matrix out. Inputs that the model calls optional may be left
 * out of any call. Outputs whose axis 0 is not the stream or the rows and that depend on the call's tokens are refused
 * for calls longer than `chunk`. A token that rnl_session_generate left pending is fed before ids, and stays fed when
 * the call then fails on a program with other inputs. On failure the stream is as before the call where its rings still
 * hold what that needs, which they do for calls of one pass; else it holds the whole passes of the call or is emptied,
 * and the message says so. A cancelled call keeps its whole passes (one that a callback stops within a pass of a
 * session without rollback_window may keep none), see rnl_session_position. */
RNL_API rnl_status_code rnl_session_run(rnl_session* session, const char* program, const rnl_tensor* inputs,
                                        size_t input_count, rnl_tensor* outputs, size_t output_count);
/* The same, with every output delivered in blocks of rows instead of copied: tensor->dims[0] rows that begin at
 * first_row of that output. tensor and its data are valid during the callback. A non-zero return cancels: the pass at
 * hand is taken back. all_rows 1: outputs of every token are wanted. */
typedef int (*rnl_output_fn)(void* user, const rnl_tensor* tensor, int64_t first_row);
RNL_API rnl_status_code rnl_session_run_blocks(rnl_session* session, const char* program, const rnl_tensor* inputs,
                                               size_t input_count, int32_t all_rows, rnl_output_fn output, void* user);

/* The same for the outputs of these names alone, optional ones too; what only the others need is left out. */
RNL_API rnl_status_code rnl_session_run_named_blocks(rnl_session* session, const char* program,
                                                     const rnl_tensor* inputs, size_t input_count,
                                                     const char* const* outputs, size_t output_count, int32_t all_rows,
                                                     rnl_output_fn output, void* user);

/* k > 0: of each row of logits that later calls of rnl_session_run and rnl_session_run_blocks give, only the k highest
 * are wanted. Where the model's output matrix is stored for it (`runnel inspect` says "split"), k is at most 64 and one
 * row is computed at a time, those not below the k-th highest (equal ones too) have the same bits as ever and all
 * others are -INFINITY, for about half the memory traffic. In all other cases every logit is exact. 0, the default: all
 * are wanted. rnl_session_generate chooses by itself. */
RNL_API void rnl_session_set_top_logits(rnl_session* session, int32_t k);

typedef enum rnl_pooling {
  RNL_POOLING_OF_MODEL = 0,
  RNL_POOLING_LAST = 1,
  RNL_POOLING_MEAN = 2,
  RNL_POOLING_FIRST = 3
} rnl_pooling;
typedef struct rnl_embed_options {
  size_t struct_size;
  int32_t pooling;   /* rnl_pooling: the row of last_hidden_state that counts, or the mean of all. 0: as the model says,
                        the last where it says nothing */
  int32_t normalise; /* 1: to length 1, -1: not. 0: as the model says, to length 1 where it says nothing */
} rnl_embed_options;
/* The embedding of a text: empties the stream, feeds ids, pools the last layer's normed rows, applies what the model
 * has behind that (dense layers) and scales to length 1. Writes rnl_model_info.embedding floats; capacity counts
 * floats. The output matrix is not computed, memory does not grow with the text, and the mean is the same for every
 * chunk. With the mean, sessions with more `rows` are faster. The stream then holds the text (an encoder's none); after
 * a failure nothing or a part of it. options may be null. RNL_UNSUPPORTED: the model gives no embeddings. */
RNL_API rnl_status_code rnl_session_embed(rnl_session* session, const int32_t* ids, size_t count,
                                          const rnl_embed_options* options, float* embedding, size_t capacity);

/* Tokens in the stream. */
RNL_API int64_t rnl_session_position(const rnl_session* session);
/* For an app that the system asks for memory: gives back the pages of activations and scratch (rnl_memory.arena) that
 * the library allocated; on Linux and Android at once, on Apple's systems when others need them. The stream and all
 * that rollback needs stay, and later calls give the same bits: they take the pages again as they touch them, so the
 * plan's sizes do not change. Weights and vocabulary are the file's pages, which the system takes by itself; memory on
 * a device stays. */
RNL_API rnl_status_code rnl_session_trim(rnl_session* session);
/* Empties the stream. */
RNL_API void rnl_session_reset(rnl_session* session);
/* Takes back the last n tokens, n <= rollback_window. Several in a row share the window until the stream is as long
 * again as it was; calls that fail or are cancelled do not shorten it, but for one of several passes that fails on a
 * model with windows. A pending token is void then. What follows is bit for bit what a new session would give that was
 * fed the same tokens by the same calls, the last one cut at that point. On failure nothing has changed. */
RNL_API rnl_status_code rnl_session_rollback(rnl_session* session, int64_t n);
/* A copy of the stream's state in memory of the caller; size as rnl_session_snapshot_bytes says at this position. */
RNL_API size_t rnl_session_snapshot_bytes(const rnl_session* session);
RNL_API rnl_status_code rnl_session_snapshot(const rnl_session* session, void* buffer, size_t size);
/* Refused with RNL_STATE_MISMATCH, and without effect, when it was made with another model or plan or is damaged. A
 * stream that fits may go on in a session with another context, such as a larger one, unless the model computes with
 * the context itself. */
RNL_API rnl_status_code rnl_session_restore_snapshot(rnl_session* session, const void* buffer, size_t size);
/* The same in a file: written to a temporary file, synced, renamed. A link's target is written; what is no regular file
 * is refused, and so is the model's own file. Several threads and processes may save to one path: the last one's file
 * stays, whole. */
RNL_API rnl_status_code rnl_session_save(const rnl_session* session, const char* path);
RNL_API rnl_status_code rnl_session_restore(rnl_session* session, const char* path);
/* Of a saved file: the options of the session that saved it, as far as the states depend on them (context, chunk,
 * rollback_window, kv; all others 0), and the stream's tokens. RNL_STATE_MISMATCH: it is none, or of another version of
 * the library. Its contents are proved when it is restored. */
RNL_API rnl_status_code rnl_saved_options(const char* path, rnl_session_options* options, int64_t* position);
/* A second session with the same contents, options and top_logits, without callbacks. */
RNL_API rnl_status_code rnl_session_fork(const rnl_session* session, rnl_session** copy);

/* Asks a running call to stop; it returns RNL_CANCELLED within one operator (with recurrent states and on a device: one
 * pass). Without a running call it stops the next one. Any thread. */
RNL_API void rnl_session_cancel(rnl_session* session);
/* Forgets a cancel that came after the last call had ended, so that the next one runs. Any thread. */
RNL_API void rnl_session_clear_cancel(rnl_session* session);

typedef struct rnl_stats {
  size_t struct_size;
  int64_t position;
  uint64_t tokens; /* fed in all calls */
  uint64_t passes;
  uint64_t nanoseconds; /* spent in run calls */
} rnl_stats;
/* Any thread. */
RNL_API void rnl_session_stats(const rnl_session* session, rnl_stats* stats);

/* Called between the passes of a long call. Returning non-zero cancels it. */
typedef int (*rnl_progress_fn)(void* user, int64_t done, int64_t total);
RNL_API void rnl_session_set_progress(rnl_session* session, rnl_progress_fn progress, void* user);
/* Called after every operator with its kernel's name and steady-clock times; on a device after every submission, with
 * the device's name. */
typedef void (*rnl_trace_fn)(void* user, const char* op, const char* kernel, uint64_t begin_ns, uint64_t end_ns);
RNL_API void rnl_session_set_trace(rnl_session* session, rnl_trace_fn trace, void* user);

/* ---- text ---- */

enum {
  RNL_TEXT_NO_BOS_EOS = 1 /* leave out the model's default bos and eos */,
  RNL_TEXT_SPECIAL = 2 /* special tokens written in the text count as tokens */
};

/* Text to ids. *count becomes the number of ids; when it is above capacity nothing useful is in ids and the code is
 * RNL_INVALID_ARGUMENT. ids null with capacity 0 asks for the count (code RNL_OK). Malformed UTF-8 becomes U+FFFD. */
RNL_API rnl_status_code rnl_tokenize(const rnl_model* model, const char* text, size_t size, uint32_t flags,
                                     int32_t* ids, size_t capacity, size_t* count);
/* Ids to text, not zero-terminated. *size becomes the number of bytes; buffer null with capacity 0 asks for it. */
RNL_API rnl_status_code rnl_detokenize(const rnl_model* model, const int32_t* ids, size_t count, uint32_t flags,
                                       char* buffer, size_t capacity, size_t* size);

typedef struct rnl_logit_bias {
  int32_t id;
  float bias; /* added to the logit; -INFINITY forbids the token */
} rnl_logit_bias;

/* How the next token is chosen. Order: bias, repetition, frequency and presence, temperature,
 * top_k, top_p, min_p, draw. penalty_window is at most 1024. */
typedef struct rnl_sampling {
  size_t struct_size;
  float temperature;        /* 0: greedy, the lowest id of equal ones */
  int32_t top_k;            /* 0: all */
  float top_p;              /* 0 or 1: off */
  float min_p;              /* 0: off */
  float repetition_penalty; /* 0 or 1: off */
  float presence_penalty;
  float frequency_penalty;
  int32_t penalty_window; /* newest tokens that penalties look at; 0: 64 */
  uint64_t seed;          /* the draws depend on seed and position only */
  const rnl_logit_bias* bias;
  size_t bias_count;
} rnl_sampling;

/* A grammar that an answer must follow, made for a model's vocabulary; sessions of that model share it, from any
 * thread. Destroy it before the model and after the calls that use it. The text is in GBNF's notation: rules `name ::=
 * ...`, of which `root` is the answer as a whole; "text", [a-z] and [^"\\] for one character, `.` for any, ( ), |, * +
 * ? {m} {m,} {m,n}, # for comments; \n \r \t \xHH \uHHHH \UHHHHHHHH. Groups may be nested 100 deep, with repeats of
 * repeats 300; a repeat of many times is counted, up to 100,000. RNL_INVALID_ARGUMENT tells the line; also for rules
 * that begin with themselves (left recursion) and for a grammar that is too large, with the rule that takes most of it
 * and the comment on the line before that rule. What is worked out about the vocabulary is kept in the grammar, some
 * MiB, and some 14 bytes for each token in the model. */
typedef struct rnl_grammar rnl_grammar;
RNL_API rnl_status_code rnl_grammar_create(const rnl_model* model, const char* text, size_t size,
                                           rnl_grammar** grammar);
RNL_API void rnl_grammar_destroy(rnl_grammar* grammar);

typedef struct rnl_logprob {
  int32_t id;
  float logprob; /* natural logarithm */
} rnl_logprob;
/* Of a chosen token, in the model's own distribution: before biases, penalties, temperature, grammar and all else. */
typedef struct rnl_logprobs {
  size_t struct_size;
  rnl_logprob chosen;
  const rnl_logprob* best; /* the most probable tokens, the best first; valid during the call */
  size_t best_count;
} rnl_logprobs;
typedef void (*rnl_logprobs_fn)(void* user, const rnl_logprobs* token);

/* Called for each new token with the text that became certain (a character is never split; size may be 0). Returning
 * non-zero stops. */
typedef int (*rnl_token_fn)(void* user, int32_t id, const char* text, size_t size);

typedef struct rnl_generate_options {
  size_t struct_size;
  int64_t max_tokens; /* 0: until the context is full */
  rnl_sampling sampling;
  int32_t ignore_end;      /* 1: go on behind end tokens */
  const char* const* stop; /* texts that end the answer; they are not delivered */
  size_t stop_count;
  /* The answer follows this grammar: tokens that cannot come next count as minus infinity before all else, and end
   * tokens can come where the grammar's text is complete. A call with ids begins a new answer, one without goes on with
   * the answer that max_tokens or the callback cut off, also in a session that was saved, forked or restored meanwhile.
   * Excludes ignore_end. */
  const rnl_grammar* grammar;
  int32_t grammar_goes_on;  /* 1: ids belong to the answer under way, such as after a rollback; refused when they do not
                               fit */
  int32_t logprobs_count;   /* how many of the most probable tokens, 0 to 256 */
  rnl_logprobs_fn logprobs; /* called for each new token before the token callback; costs a pass over all logits */
  void* logprobs_user;
} rnl_generate_options;

/* Feeds ids and continues the stream with the first program, which takes ids and gives logits f32 [rows, n]. Ids from
 * the tokenizer's vocabulary on, which only pad the output matrix, are never chosen. The last token that was chosen is
 * kept as pending and is fed by the next call (rnl_session_run too), so that a conversation goes on without recomputing
 * anything. Options are checked before anything is fed. A call that fails while it feeds ids is taken back as
 * rnl_session_run says; one that fails later leaves every token that was delivered in the stream, the last one pending.
 * So after RNL_DEVICE_LOST and rnl_session_recover a call without ids goes on behind the last token; where none was
 * delivered, the stream is as before. *generated may be null. */
RNL_API rnl_status_code rnl_session_generate(rnl_session* session, const int32_t* ids, size_t count,
                                             const rnl_generate_options* options, rnl_token_fn token, void* user,
                                             int64_t* generated);

/* Rows of features that stand in the place of one token of a prompt, such as a picture's patches or frames of sound: a
 * program of the model takes them along the stream instead of ids. Wherever the ids of a stream count (penalties), each
 * row is the placeholder. */
typedef struct rnl_features {
  size_t struct_size;
  int32_t placeholder; /* the id in whose place they stand */
  const char* program; /* that takes them; null: the first that takes rows of floats and no ids */
  const float* rows;   /* [count, width] */
  size_t count, width;
  const int32_t* positions; /* [count, axes] for the program's input of role positions; null: they count on */
  size_t axes;              /* of positions; 0: 1 */
} rnl_features;
/* The same with a prompt in parts: where ids hold the placeholder of the next of the features, its rows are fed. Ids
 * are to follow the last of them. Such a prompt takes several calls: when one fails, all are taken back where the
 * states allow that, which may be further than rollback_window; else the parts that were fed stay, as the message says,
 * and on a lost device they do. One that is cancelled keeps its whole passes. RNL_UNSUPPORTED: the model has no program
 * that takes features. */
RNL_API rnl_status_code rnl_session_generate_parts(rnl_session* session, const int32_t* ids, size_t count,
                                                   const rnl_features* const* features, size_t feature_count,
                                                   const rnl_generate_options* options, rnl_token_fn token, void* user,
                                                   int64_t* generated);

typedef struct rnl_chat_message {
  const char* role;    /* a name such as system, user, assistant or tool, of letters, digits, space, _ and - */
  const char* content; /* never becomes special tokens, whatever it says; null: the message consists of parts */
} rnl_chat_message;
/* A part of a message: a text, or something that the template writes as a token in whose place features are fed. */
typedef struct rnl_chat_part {
  size_t struct_size;
  size_t message;               /* number of the message that it belongs to */
  const char* type;             /* text, or as the model's template calls it: image, audio, video */
  const char* text;             /* of a text, else null; never becomes special tokens */
  const rnl_features* features; /* of all others; rnl_chat_text and rnl_chat_ids do without */
} rnl_chat_part;
/* A variable of the model's chat template, such as enable_thinking. */
typedef struct rnl_chat_variable {
  const char* name;
  const char* text; /* null: the variable is the truth value `truth` */
  int32_t truth;
} rnl_chat_variable;
typedef struct rnl_chat {
  size_t struct_size;
  const rnl_chat_message* messages; /* the whole conversation, oldest first */
  size_t message_count;
  int32_t is_closed; /* 1: ends behind the last message. 0: with the opening of the model's next one */
  const rnl_chat_variable* variables;
  size_t variable_count;
  int64_t now;                       /* seconds since 1970 for templates that write the date; 0: the clock's */
  const rnl_chat_part* const* parts; /* in the order of their messages */
  size_t part_count;
} rnl_chat;
/* A conversation as the model's chat template writes it, as text (not zero-terminated) and as ids. RNL_UNSUPPORTED: the
 * model has no chat format, or it has no messages of a role; RNL_INVALID_ARGUMENT: the template refuses the
 * conversation, with its message. Capacity rules of rnl_tokenize. */
RNL_API rnl_status_code rnl_chat_text(const rnl_model* model, const rnl_chat* chat, char* buffer, size_t capacity,
                                      size_t* size);
RNL_API rnl_status_code rnl_chat_ids(const rnl_model* model, const rnl_chat* chat, int32_t* ids, size_t capacity,
                                     size_t* count);

typedef struct rnl_chat_result {
  size_t struct_size;
  int64_t kept;    /* tokens that the stream held of the conversation and that were not computed again */
  int64_t dropped; /* tokens of the stream that were taken back, because the conversation does not go on from them */
  int64_t fed;     /* tokens fed before the answer */
  int64_t generated;
} rnl_chat_result;
/* Answers a conversation (is_closed has no effect). The stream is to hold nothing, or what earlier calls of this
 * function put there: the text of the conversation is compared with that of the stream, and what is there already is
 * not fed again. Where the two part (a template may write earlier turns otherwise, a message may have been changed) the
 * stream is taken back as far as its states allow, which may be further than rollback_window, else to its start: with
 * recurrent states a rollback_window as long as an answer keeps what stands before one that the template shortens. A
 * call that is refused changes nothing; one that fails while it feeds leaves a stream from which the next call goes on.
 * The answer's text, as given to token(), is to be the content of the next message of role assistant. Features are
 * compared as texts are, so those of the whole conversation are given each time, in its parts. This state is a part of
 * the stream: saved, restored and forked with it. result may be null. */
RNL_API rnl_status_code rnl_session_chat(rnl_session* session, const rnl_chat* chat,
                                         const rnl_generate_options* options, rnl_token_fn token, void* user,
                                         rnl_chat_result* result);

/* Ids of one chat turn of a user (system may be null) followed by the opening of the model's answer; first 1 at the
 * start of a conversation, else what such a turn adds behind an answer: for templates that leave earlier turns as they
 * are. RNL_UNSUPPORTED when the model has no chat format. Capacity rules of rnl_tokenize. */
RNL_API rnl_status_code rnl_chat_turn(const rnl_model* model, const char* system, const char* user, int32_t first,
                                      int32_t* ids, size_t capacity, size_t* count);

#ifdef __cplusplus
}
#endif
#endif
