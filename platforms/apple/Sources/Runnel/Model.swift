import CRunnel
import Foundation

/// An opened file, shared by any number of sessions, which keep it alive. May be used from any thread.
public final class Model: @unchecked Sendable {
  let handle: OpaquePointer
  private let engine: Engine
  public let info: Info

  public struct Info: Sendable {
    public let name, architecture, licence: String
    /// Tokens; 0: not stated.
    public let context: Int
    public let vocabulary: Int
    public let hasChat: Bool
    public let bos, eos: Int32
    /// Floats of an embedding; 0: the model gives none.
    public let embedding: Int
    public let fileBytes: UInt64
  }

  /// Opening maps the file and reads its header alone. copy: read it into memory, so that it may be changed meanwhile.
  public init(path: String, engine: Engine, copy: Bool = false, adapter: String? = nil) throws {
    handle = try (adapter ?? "").withCString { name in
      var options = rnl_model_options.sized()
      options.copy = copy ? 1 : 0
      options.adapter = adapter == nil ? nil : name
      return try Runnel.handle { rnl_model_open(engine.handle, path, &options, $0) }
    }
    self.engine = engine
    var i = rnl_model_info.sized()
    do { try check(rnl_model_get_info(handle, &i)) } catch {
      rnl_model_close(handle)
      throw error
    }
    info = Info(
      name: String(cString: i.name), architecture: String(cString: i.architecture), licence: String(cString: i.licence),
      context: Int(i.context), vocabulary: Int(i.vocabulary), hasChat: i.has_chat == 1, bos: i.bos, eos: i.eos,
      embedding: Int(i.embedding), fileBytes: i.file_bytes)
  }
  deinit { rnl_model_close(handle) }

  /// Reads the whole file and compares its checksums.
  public func verify() throws { try check(rnl_model_verify(handle)) }

  /// special: special tokens written in the text count as tokens. plain: without the model's default bos and eos.
  public func tokenize(_ text: String, special: Bool = false, plain: Bool = false) throws -> [Int32] {
    let flags = Self.flags(special: special, plain: plain)
    let bytes = Array(text.utf8)
    return try bytes.withUnsafeBufferPointer { buffer in
      try buffer.withMemoryRebound(to: CChar.self) { text in
        var count = 0
        try check(rnl_tokenize(handle, text.baseAddress, text.count, flags, nil, 0, &count))
        var ids = [Int32](repeating: 0, count: count)
        try check(rnl_tokenize(handle, text.baseAddress, text.count, flags, &ids, ids.count, &count))
        return ids
      }
    }
  }
  public func detokenize(_ ids: [Int32], special: Bool = false) throws -> String {
    let flags = Self.flags(special: special, plain: false)
    var size = 0
    try check(rnl_detokenize(handle, ids, ids.count, flags, nil, 0, &size))
    var bytes = [CChar](repeating: 0, count: size)
    try check(rnl_detokenize(handle, ids, ids.count, flags, &bytes, bytes.count, &size))
    return String(decoding: bytes.map(UInt8.init(bitPattern:)), as: UTF8.self)
  }
  private static func flags(special: Bool, plain: Bool) -> UInt32 {
    UInt32(special ? RNL_TEXT_SPECIAL : 0) | UInt32(plain ? RNL_TEXT_NO_BOS_EOS : 0)
  }

  /// What a session with these options will take; nothing is allocated for it.
  public func plan(_ options: SessionOptions = .init()) throws -> Memory {
    var o = options.inC, memory = rnl_memory.sized()
    try check(rnl_session_plan(handle, &o, &memory))
    return Memory(memory)
  }
  /// A grammar in GBNF's notation that answers can be held to.
  public func grammar(_ text: String) throws -> Grammar { try Grammar(text, model: self) }
  public func session(_ options: SessionOptions = .init()) throws -> Session { try Session(model: self, options: options) }

  /// Outputs of a program that a call gets without naming them.
  func outputs(of program: String?) -> [String] {
    var names: [String] = [], value = rnl_value_info.sized()
    for index in 0... {
      guard rnl_model_program_output(handle, program, index, &value) == RNL_OK else { break }
      if value.optional == 0 { names.append(String(cString: value.name)) }
    }
    return names
  }
}

/// Made for a model's vocabulary; shared by its sessions.
public final class Grammar: @unchecked Sendable {
  let handle: OpaquePointer
  private let model: Model

  init(_ text: String, model: Model) throws {
    self.model = model
    handle = try Runnel.handle { rnl_grammar_create(model.handle, text, text.utf8.count, $0) }
  }
  deinit { rnl_grammar_destroy(handle) }
}

/// Bytes.
public struct Memory: Sendable {
  public let weights, state, arena, packed, tokenizer, fixed: UInt64

  init(_ m: rnl_memory) {
    (weights, state, arena, packed, tokenizer, fixed) = (m.weights, m.state, m.arena, m.packed, m.tokenizer, m.fixed)
  }
}

/// As rnl_session_options of runnel.h; zeros are defaults.
public struct SessionOptions: Sendable {
  public var context = 0, chunk = 0, rows = 0, rollbackWindow = 0
  public var budgetBytes: UInt64 = 0
  /// On the device where there is one; see Session.leaveDevice().
  public var usesDevice = false

  public init(context: Int = 0, chunk: Int = 0, rows: Int = 0, rollbackWindow: Int = 0, budgetBytes: UInt64 = 0, usesDevice: Bool = false) {
    (self.context, self.chunk, self.rows, self.rollbackWindow) = (context, chunk, rows, rollbackWindow)
    (self.budgetBytes, self.usesDevice) = (budgetBytes, usesDevice)
  }
  var inC: rnl_session_options {
    var o = rnl_session_options.sized()
    (o.context, o.chunk, o.rows, o.rollback_window) = (Int64(context), Int64(chunk), Int64(rows), Int64(rollbackWindow))
    o.budget_bytes = budgetBytes
    o.backend = Int32((usesDevice ? RNL_BACKEND_VULKAN : RNL_BACKEND_CPU).rawValue)
    return o
  }
}
