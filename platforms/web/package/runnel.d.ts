/** A call that failed. `code` is the status code of runnel.h in small letters, such as `invalid_model`. */
export class RunnelError extends Error {
  readonly code: string;
}

/** The module in its worker. Nothing of it runs in the page. */
export class Runnel {
  /**
   * Loads the module: with threads where the page is isolated from other origins (`crossOriginIsolated`), else without.
   * threads: as many as there are cores, at most 4, unless it is given; 1: without threads.
   */
  static load(options?: { threads?: number }): Promise<Runnel>;
  readonly version: string;
  readonly threads: number;
  readonly isThreaded: boolean;
  /** Ends the worker with all its models and sessions; calls that run are rejected. */
  close(): void;
}

export type Source = Blob | ArrayBuffer | string | URL;
export type DType = 'f32' | 'f16' | 'bf16' | 'i32' | 'i64' | 'u8' | 'i8';
/** By data type; f16 and bf16 as 16-bit patterns. */
export type TensorData = Float32Array | Uint16Array | Int32Array | BigInt64Array | Uint8Array | Int8Array;
/** An array alone has one axis, and the data type that fits it; a Uint16Array needs its `dtype`. */
export type TensorInput = TensorData | { data: TensorData; dims?: number[]; dtype?: DType };
export interface Tensor {
  dtype: DType;
  dims: number[];
  data: TensorData;
}

export interface OpenOptions {
  /** By default one that all such calls share. */
  runnel?: Runnel;
  onProgress?: (bytes: number, total: number) => void;
  signal?: AbortSignal;
}

export interface ModelInfo {
  name: string;
  architecture: string;
  licence: string;
  source: string;
  /** Tokens; 0: not stated. */
  context: number;
  /** Pieces of the tokenizer; 0 without one. */
  vocabulary: number;
  hasChat: number;
  bos: number;
  eos: number;
  /** Floats of an embedding; 0: the model gives none. */
  embedding: number;
  fileBytes: number;
}
export interface ValueInfo {
  name: string;
  dtype: DType;
  /** Of each axis an expression over the model's symbols. */
  sizes: string[];
  optional: boolean;
}
export interface ProgramInfo {
  name: string;
  /** The symbol of the axis along which long calls are cut; '': none. */
  stream: string;
  rows: string;
  inputs: ValueInfo[];
  outputs: ValueInfo[];
}

export interface TextOptions {
  /** Special tokens written in the text count as tokens. */
  special?: boolean;
  /** Without the model's default begin and end tokens. */
  plain?: boolean;
}

/** As rnl_session_options in runnel.h; what is left out has its default. */
export interface SessionOptions {
  context?: number;
  chunk?: number;
  rows?: number;
  rollbackWindow?: number;
  kv?: 'f32' | 'f16' | 'q8';
  budgetBytes?: number;
}
/** Bytes. */
export interface MemoryInfo {
  weights: number;
  state: number;
  arena: number;
  packed: number;
  tokenizer: number;
  fixed: number;
}

export class Model {
  /** Opens a model from a File or Blob, an ArrayBuffer (which is copied) or an address. Its bytes lie in the module's memory. */
  static fromFile(source: Source, options?: OpenOptions): Promise<Model>;
  readonly runnel: Runnel;
  readonly info: ModelInfo;
  readonly programs: ProgramInfo[];
  /** Compares the file's checksums. */
  verify(): Promise<void>;
  tokenize(text: string, options?: TextOptions): Promise<Int32Array>;
  detokenize(ids: ArrayLike<number>, options?: TextOptions): Promise<string>;
  /** What a session with these options would take. */
  plan(options?: SessionOptions): Promise<MemoryInfo>;
  /** A grammar in GBNF's notation for the options of generate and chat. */
  grammar(text: string): Promise<Grammar>;
  session(options?: SessionOptions): Promise<Session>;
  /** Closes the model with its sessions and grammars; calls that run are cancelled. */
  close(): Promise<void>;
}

export class Grammar {
  close(): Promise<void>;
}

/** As rnl_generate_options and rnl_sampling in runnel.h. Greedy without a temperature. */
export interface GenerateOptions {
  maxTokens?: number;
  temperature?: number;
  topK?: number;
  topP?: number;
  minP?: number;
  repetitionPenalty?: number;
  presencePenalty?: number;
  frequencyPenalty?: number;
  penaltyWindow?: number;
  seed?: number | bigint;
  /** What is added to a token's logit; -Infinity forbids it. */
  bias?: Record<number, number>;
  stop?: string[];
  ignoreEnd?: boolean;
  grammar?: Grammar;
  grammarGoesOn?: boolean;
  /** Stops the answer within a token, or within a pass of the prompt; the iterator then throws the signal's reason. */
  signal?: AbortSignal;
  /** Between the passes of a long prompt. */
  onProgress?: (tokens: number, total: number) => void;
}
export interface ChatMessage {
  role: string;
  content: string;
}
export interface ChatResult {
  kept: number;
  dropped: number;
  fed: number;
  generated: number;
}

/** One stream. Calls run one after the other, in the order in which they were made. */
export class Session {
  readonly model: Model;
  /**
   * Texts of a continuation, as they come. prompt: a text, ids, or null to go on with the answer that maxTokens or the
   * reader cut off. Leaving the loop stops the answer; what was delivered stays in the stream.
   */
  generate(prompt: string | ArrayLike<number> | null, options?: GenerateOptions): AsyncGenerator<string, { generated: number }>;
  /** Texts of the answer to a conversation, oldest message first. What the stream holds of it is not computed again. */
  chat(messages: ChatMessage[], options?: GenerateOptions & { variables?: Record<string, string | boolean> }): AsyncGenerator<string, ChatResult>;
  embed(input: string | ArrayLike<number>, options?: { pooling?: number; normalise?: number }): Promise<Float32Array>;
  /** Runs a program (by default the first) on named tensors and gives its outputs (by default all that are not optional). */
  run(
    inputs: Record<string, TensorInput>,
    options?: { program?: string; outputs?: string[]; signal?: AbortSignal; onProgress?: (tokens: number, total: number) => void },
  ): Promise<Record<string, Tensor>>;
  /** Tokens in the stream. */
  position(): Promise<number>;
  reset(): Promise<void>;
  /** Takes back the last tokens. */
  rollback(tokens: number): Promise<void>;
  /** The stream as bytes, to keep; restore() takes them in any session of the same model and plan. */
  snapshot(): Promise<Uint8Array>;
  restore(bytes: Uint8Array): Promise<void>;
  /** A second session with the same contents. */
  fork(): Promise<Session>;
  memory(): Promise<MemoryInfo>;
  stats(): Promise<{ position: number; tokens: number; passes: number; nanoseconds: number }>;
  /** A call that runs is cancelled. */
  close(): Promise<void>;
}
