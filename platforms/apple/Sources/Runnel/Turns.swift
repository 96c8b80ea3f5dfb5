import CRunnel
import Foundation

/// One call of a session.
final class Turn: @unchecked Sendable {
  fileprivate var cancelled = false
  fileprivate let lock: NSLock = NSLock()
  var isCancelled: Bool { lock.withLock { cancelled } }
}

/// Who may run: the library's cancel concerns whatever call runs then, so it is given only while the turn that it is
/// meant for is the one.
final class Turns: @unchecked Sendable {
  private let lock = NSLock()
  private var current: Turn?
  private var open = true

  var isOpen: Bool { lock.withLock { open } }

  func begin(_ turn: Turn) throws {
    try lock.withLock {
      if !open { throw RunnelError.closed }
      if turn.isCancelled { throw CancellationError() }
      current = turn
    }
  }
  func end(_ turn: Turn) { lock.withLock { current = nil } }

  func cancel(_ turn: Turn, _ cancel: () -> Void) {
    lock.withLock {
      turn.lock.withLock { turn.cancelled = true }
      if current === turn && open { cancel() }
    }
  }
  /// False: it was closed before.
  func close(cancel: () -> Void) -> Bool {
    lock.withLock {
      if !open { return false }
      open = false
      if let turn = current {
        turn.lock.withLock { turn.cancelled = true }
        cancel()
      }
      return true
    }
  }
}

/// Where the library's token callback puts texts.
final class Sink {
  private let continuation: AsyncThrowingStream<String, Error>.Continuation

  init(_ continuation: AsyncThrowingStream<String, Error>.Continuation) { self.continuation = continuation }
  static func from(_ user: UnsafeMutableRawPointer?) -> Sink { Unmanaged<Sink>.fromOpaque(user!).takeUnretainedValue() }

  /// Non-zero: nobody reads any more.
  func take(_ text: UnsafePointer<CChar>?, _ size: Int) -> Int32 {
    guard let text, size > 0 else { return 0 }
    let bytes = UnsafeRawBufferPointer(start: text, count: size)
    if case .terminated = continuation.yield(String(decoding: bytes, as: UTF8.self)) { return 1 }
    return 0
  }
}
