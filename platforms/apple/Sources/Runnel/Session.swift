import CRunnel
import Foundation

/// One stream. Its calls run one after the other on a queue of its own, so that no task's thread waits for them; they may
/// be made from any task. A cancelled task's call stops within an operator or a pass.
public final class Session: @unchecked Sendable {
  public let model: Model
  private let handle: OpaquePointer
  private let queue = DispatchQueue(label: "runnel.session", qos: .userInitiated)
  private let turns = Turns()

  convenience init(model: Model, options: SessionOptions) throws {
    var o = options.inC
    self.init(model: model, handle: try Runnel.handle { rnl_session_create(model.handle, &o, $0) })
  }
  private init(model: Model, handle: OpaquePointer) {
    self.model = model
    self.handle = handle
  }
  // A call that runs keeps the session alive: here none does.
  deinit { if turns.isOpen { rnl_session_destroy(handle) } }

  /// Stops the running call and gives the memory back. Later calls fail.
  public func close() {
    guard turns.close(cancel: { rnl_session_cancel(handle) }) else { return }
    queue.async { [self] in rnl_session_destroy(handle) }
  }

  // MARK: calls in turn

  /// Runs f on the queue, as the call of `turn`.
  private func run<T>(_ turn: Turn = Turn(), _ f: @escaping (OpaquePointer) throws -> T) async throws -> T {
    try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        queue.async { [self] in continuation.resume(with: Result { try perform(turn, f) }) }
      }
    } onCancel: { [self] in
      turns.cancel(turn) { rnl_session_cancel(handle) }
    }
  }
  private func perform<T>(_ turn: Turn, _ f: (OpaquePointer) throws -> T) throws -> T {
    try turns.begin(turn)
    defer {
      turns.end(turn)
      // A cancel came under the turn's lock, so none comes after this.
      rnl_session_clear_cancel(handle)
    }
    do { return try f(handle) } catch let error as RunnelError where error.code == .cancelled {
      if turns.isOpen { throw CancellationError() }
      throw error
    }
  }

  // MARK: text

  /// Texts of a continuation, as they come. What was delivered stays in the stream; prompt nil goes on from there.
  /// Ending the loop, or cancelling its task, stops the answer.
  public func generate(_ prompt: String?, _ options: GenerateOptions = .init()) -> AsyncThrowingStream<String, Error> {
    stream(options) { [model] handle, o, token, user in
      // A stream that has begun gets no second beginning.
      let ids = try prompt.map { try model.tokenize($0, plain: rnl_session_position(handle) > 0) } ?? []
      try check(rnl_session_generate(handle, ids, ids.count, o, token, user, nil))
    }
  }
  public func generate(ids: [Int32], _ options: GenerateOptions = .init()) -> AsyncThrowingStream<String, Error> {
    stream(options) { handle, o, token, user in try check(rnl_session_generate(handle, ids, ids.count, o, token, user, nil)) }
  }
  /// Texts of the answer to a conversation, oldest message first. What the stream holds of it is not computed again.
  public func chat(_ messages: [Message], _ options: GenerateOptions = .init()) -> AsyncThrowingStream<String, Error> {
    stream(options) { handle, o, token, user in
      try withMessages(messages) { list in
        var chat = rnl_chat.sized(), result = rnl_chat_result.sized()
        (chat.messages, chat.message_count) = (list.baseAddress, list.count)
        chat.now = Int64(Date().timeIntervalSince1970)
        try check(rnl_session_chat(handle, &chat, o, token, user, &result))
      }
    }
  }

  private func stream(
    _ options: GenerateOptions,
    _ call: @escaping (OpaquePointer, UnsafePointer<rnl_generate_options>, rnl_token_fn, UnsafeMutableRawPointer) throws -> Void
  ) -> AsyncThrowingStream<String, Error> {
    AsyncThrowingStream { continuation in
      let turn = Turn()
      continuation.onTermination = { [self] _ in turns.cancel(turn) { rnl_session_cancel(handle) } }
      queue.async { [self] in
        let sink = Sink(continuation)
        do {
          try perform(turn) { handle in
            try options.withC { o in
              try call(handle, o, { user, _, text, size in Sink.from(user).take(text, size) }, Unmanaged.passUnretained(sink).toOpaque())
            }
          }
          // An answer that the callback stopped is no failure of the library.
          if turn.isCancelled { throw turns.isOpen ? CancellationError() : RunnelError(code: .cancelled, message: "the session was closed") }
          continuation.finish()
        } catch {
          continuation.finish(throwing: error)
        }
      }
    }
  }

  public func embed(_ text: String) async throws -> [Float] {
    let ids = try model.tokenize(text)
    return try await run { [size = model.info.embedding] handle in
      var options = rnl_embed_options.sized(), vector = [Float](repeating: 0, count: size)
      try check(rnl_session_embed(handle, ids, ids.count, &options, &vector, size))
      return vector
    }
  }

  // MARK: tensors

  /// Runs a program (nil: the first one) on named tensors. outputs nil: all that are not optional.
  public func run(_ inputs: [String: Tensor], program: String? = nil, outputs: [String]? = nil) async throws -> [String: Tensor] {
    let names = outputs ?? model.outputs(of: program)
    return try await run { try runProgram($0, program, inputs, names) }
  }

  // MARK: state

  public var position: Int {
    get async throws { try await run { Int(rnl_session_position($0)) } }
  }
  public func reset() async throws { try await run { rnl_session_reset($0) } }
  /// Takes back the last tokens.
  public func rollback(_ tokens: Int) async throws { try await run { try check(rnl_session_rollback($0, Int64(tokens))) } }
  public func snapshot() async throws -> Data {
    try await run { handle in
      var data = Data(count: rnl_session_snapshot_bytes(handle))
      try data.withUnsafeMutableBytes { try check(rnl_session_snapshot(handle, $0.baseAddress, $0.count)) }
      return data
    }
  }
  public func restore(_ snapshot: Data) async throws {
    try await run { handle in
      try snapshot.withUnsafeBytes { try check(rnl_session_restore_snapshot(handle, $0.baseAddress, $0.count)) }
    }
  }
  /// The same in a file, written whole or not at all.
  public func save(to path: String) async throws { try await run { try check(rnl_session_save($0, path)) } }
  public func restore(from path: String) async throws { try await run { try check(rnl_session_restore($0, path)) } }
  /// A second session with the same contents.
  public func fork() async throws -> Session {
    try await run { [model] handle in Session(model: model, handle: try Runnel.handle { rnl_session_fork(handle, $0) }) }
  }
  /// Leaves the device for the CPU, where the stream goes on: before the app goes to the background, where the system
  /// ends apps that use the GPU. Of no effect on the CPU.
  public func leaveDevice() async throws { try await run { try check(rnl_session_recover($0)) } }
  public func memory() async throws -> Memory {
    try await run { handle in
      var memory = rnl_memory.sized()
      try check(rnl_session_get_memory(handle, &memory))
      return Memory(memory)
    }
  }
}
