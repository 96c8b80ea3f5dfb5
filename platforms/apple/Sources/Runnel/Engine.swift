import CRunnel

/// A call of the library that failed.
public struct RunnelError: Error, CustomStringConvertible, Sendable {
  public enum Code: UInt32, Sendable {
    case invalidArgument = 1
    case notFound, io, invalidModel, unsupported, outOfMemory, budgetExceeded, contextFull, cancelled, deviceLost
    case nonFinite, rollbackRange, stateMismatch, `internal`
  }
  public let code: Code
  public let message: String
  public var description: String { message }

  static let closed = RunnelError(code: .invalidArgument, message: "the session is closed")
}

/// Throws what a status code says; the message belongs to the thread that made the call.
func check(_ status: rnl_status_code) throws {
  if status == RNL_OK { return }
  throw RunnelError(code: .init(rawValue: status.rawValue) ?? .internal, message: String(cString: rnl_last_error()))
}

/// The handle that a call fills in.
func handle(_ create: (UnsafeMutablePointer<OpaquePointer?>) -> rnl_status_code) throws -> OpaquePointer {
  var made: OpaquePointer?
  try check(create(&made))
  return made!
}

/// A struct of runnel.h with all fields zero but its size.
protocol Sized {
  init()
  var struct_size: Int { get set }
}
extension Sized {
  static func sized() -> Self {
    var s = Self()
    s.struct_size = MemoryLayout<Self>.size
    return s
  }
}
extension rnl_engine_options: Sized {}
extension rnl_model_options: Sized {}
extension rnl_model_info: Sized {}
extension rnl_session_options: Sized {}
extension rnl_memory: Sized {}
extension rnl_sampling: Sized {}
extension rnl_generate_options: Sized {}
extension rnl_embed_options: Sized {}
extension rnl_chat: Sized {}
extension rnl_chat_result: Sized {}
extension rnl_stats: Sized {}
extension rnl_program_info: Sized {}
extension rnl_value_info: Sized {}

/// Threads. Models keep it alive.
public final class Engine: @unchecked Sendable {
  let handle: OpaquePointer

  /// threads 0: as many as there are fast cores, at most four.
  public init(threads: Int = 0) throws {
    var options = rnl_engine_options.sized()
    options.threads = Int32(threads)
    handle = try Runnel.handle { rnl_engine_create(&options, $0) }
  }
  deinit { rnl_engine_destroy(handle) }

  public var threads: Int { Int(rnl_engine_threads(handle)) }
  public static var version: String { String(cString: rnl_version()) }
}
