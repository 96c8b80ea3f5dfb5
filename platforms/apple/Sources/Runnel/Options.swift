import CRunnel

public struct Message: Sendable {
  public var role, content: String
  public init(role: String, content: String) { (self.role, self.content) = (role, content) }
}

/// As rnl_generate_options and rnl_sampling of runnel.h; greedy without a temperature.
public struct GenerateOptions: Sendable {
  /// 0: until the context is full.
  public var maxTokens = 0
  public var temperature: Float = 0, topP: Float = 0, minP: Float = 0
  public var topK = 0
  public var repetitionPenalty: Float = 0, presencePenalty: Float = 0, frequencyPenalty: Float = 0
  public var seed: UInt64 = 0
  public var stop: [String] = []
  public var ignoreEnd = false
  public var grammar: Grammar?

  public init(maxTokens: Int = 0, temperature: Float = 0, seed: UInt64 = 0, stop: [String] = [], ignoreEnd: Bool = false, grammar: Grammar? = nil) {
    (self.maxTokens, self.temperature, self.seed) = (maxTokens, temperature, seed)
    (self.stop, self.ignoreEnd, self.grammar) = (stop, ignoreEnd, grammar)
  }

  func withC<T>(_ f: (UnsafePointer<rnl_generate_options>) throws -> T) throws -> T {
    var o = rnl_generate_options.sized()
    o.max_tokens = Int64(maxTokens)
    o.sampling = rnl_sampling.sized()
    (o.sampling.temperature, o.sampling.top_p, o.sampling.min_p) = (temperature, topP, minP)
    (o.sampling.top_k, o.sampling.seed) = (Int32(topK), seed)
    (o.sampling.repetition_penalty, o.sampling.presence_penalty, o.sampling.frequency_penalty) =
      (repetitionPenalty, presencePenalty, frequencyPenalty)
    o.ignore_end = ignoreEnd ? 1 : 0
    o.grammar = grammar?.handle
    return try withExtendedLifetime(grammar) {
      try withTexts(stop) { texts in
        (o.stop, o.stop_count) = (texts.baseAddress, texts.count)
        return try withUnsafePointer(to: &o) { try f($0) }
      }
    }
  }
}

/// C's texts for the time of a call.
func withTexts<T>(_ texts: [String], _ f: (UnsafeBufferPointer<UnsafePointer<CChar>?>) throws -> T) throws -> T {
  let bytes = texts.flatMap { Array($0.utf8CString) }
  return try bytes.withUnsafeBufferPointer { all in
    var at = 0
    let pointers: [UnsafePointer<CChar>?] = texts.map { text in
      defer { at += text.utf8.count + 1 }
      return all.baseAddress! + at
    }
    return try pointers.withUnsafeBufferPointer(f)
  }
}
func withMessages<T>(_ messages: [Message], _ f: (UnsafeBufferPointer<rnl_chat_message>) throws -> T) throws -> T {
  try withTexts(messages.flatMap { [$0.role, $0.content] }) { texts in
    let list = messages.indices.map { rnl_chat_message(role: texts[2 * $0], content: texts[2 * $0 + 1]) }
    return try list.withUnsafeBufferPointer(f)
  }
}
