import Foundation
import XCTest

@testable import Runnel

/// RUNNEL_MODELS: the folder of the tests' models, with native.txt, what the command-line program says to `prompt`.
let models = ProcessInfo.processInfo.environment["RUNNEL_MODELS"] ?? "models"
let prompt = "Once upon a time"
let engine = try! Engine(threads: 2)

func model(_ name: String) throws -> Model { try Model(path: "\(models)/\(name).rnl", engine: engine) }

func text(_ stream: AsyncThrowingStream<String, Error>) async throws -> String {
  try await stream.reduce(into: "") { $0 += $1 }
}

final class SessionTests: XCTestCase {
  func testGreedyTextIsThatOfTheProgram() async throws {
    let expected = try String(contentsOfFile: "\(models)/native.txt", encoding: .utf8)
    let session = try model("llama-f32").session()
    let got = try await text(session.generate(prompt, .init(maxTokens: 40)))
    XCTAssertEqual(got.trimmingCharacters(in: .newlines), expected.trimmingCharacters(in: .newlines))
    XCTAssertGreaterThan(got.count, 20)
  }

  func testTextsBecomeIdsAndTextsAgain() throws {
    let m = try model("qwen-f32")
    let sentence = "Naïve café – 1234"
    let ids = try m.tokenize(sentence, plain: true)
    XCTAssertGreaterThan(ids.count, 3)
    XCTAssertEqual(try m.detokenize(ids), sentence)
    XCTAssertEqual(try m.tokenize("", plain: true), [])
    XCTAssertTrue(m.info.hasChat)
    XCTAssertGreaterThan(try m.plan(.init(context: 512)).state, 0)
    try m.verify()
  }

  func testErrorsHaveACodeAndAMessage() async throws {
    XCTAssertThrowsError(try model("none")) { XCTAssertEqual(($0 as? RunnelError)?.code, .notFound) }
    let session = try model("llama-f32").session()
    do {
      _ = try await session.run(["nonsense": Tensor([Float(1)])])
      XCTFail("a tensor that the program does not have")
    } catch let error as RunnelError {
      XCTAssertEqual(error.code, .invalidArgument)
      XCTAssertTrue(error.message.contains("nonsense"), error.message)
    }
  }

  func testCancelFromAnotherTask() async throws {
    let session = try model("llama-f32").session(.init(context: 8192))
    let (begun, first) = (Flag(), XCTestExpectation(description: "the first token"))
    let task = Task {
      var tokens = 0
      for try await _ in session.generate("Once", .init(maxTokens: 8000, ignoreEnd: true)) {
        tokens += 1
        if begun.set() { first.fulfill() }
      }
      return tokens
    }
    await fulfillment(of: [first], timeout: 60)
    task.cancel()
    let tokens = try await task.value
    XCTAssertLessThan(tokens, 8000)
    // The session is free, nothing of the cancel is left, and the stream goes on.
    let before = try await session.position
    XCTAssertLessThan(before, 8000)
    _ = try await text(session.generate(nil, .init(maxTokens: 3, ignoreEnd: true)))
    let after = try await session.position
    XCTAssertEqual(after, before + 3)
  }

  func testACancelledRunThrows() async throws {
    let session = try model("llama-f32").session(.init(context: 8192, chunk: 16))
    let ids = Tensor((0..<8000).map { Int32(5 + $0 % 500) })
    let task = Task { try await session.run(["ids": ids]) }
    try await Task.sleep(nanoseconds: 20_000_000)
    task.cancel()
    do {
      _ = try await task.value
      XCTFail("it was done within 20 ms")
    } catch is CancellationError {}
    let position = try await session.position
    XCTAssertLessThan(position, 8000)
  }

  func testLeavingTheLoopStopsTheAnswer() async throws {
    let session = try model("llama-f32").session(.init(context: 8192))
    for try await _ in session.generate("Once", .init(maxTokens: 8000, ignoreEnd: true)) { break }
    let position = try await session.position
    XCTAssertLessThan(position, 8000)
  }

  func testCloseDuringGeneration() async throws {
    let session = try model("llama-f32").session(.init(context: 8192))
    var tokens = 0
    do {
      for try await _ in session.generate("Once", .init(maxTokens: 8000, ignoreEnd: true)) {
        tokens += 1
        if tokens == 3 { session.close() }
      }
      XCTFail("it went on to its end")
    } catch let error as RunnelError {
      XCTAssertEqual(error.code, .cancelled)
    }
    do {
      _ = try await session.position
      XCTFail("a closed session answered")
    } catch let error as RunnelError {
      XCTAssertEqual(error.code, .invalidArgument)
    }
    session.close()
  }

  func testSaveRestoreSnapshotForkAndRollback() async throws {
    let m = try model("qwen-f32")
    let more = GenerateOptions(maxTokens: 24, temperature: 0.8, seed: 7, ignoreEnd: true)
    let session = try m.session()
    _ = try await text(session.generate(prompt, .init(maxTokens: 4, temperature: 0.8, seed: 7, ignoreEnd: true)))
    let path = NSTemporaryDirectory() + "runnel-\(UUID()).state"
    defer { try? FileManager.default.removeItem(atPath: path) }
    try await session.save(to: path)
    let snapshot = try await session.snapshot()
    let fork = try await session.fork()
    let expected = try await text(session.generate(nil, more))
    XCTAssertGreaterThan(expected.count, 10)
    let ofFork = try await text(fork.generate(nil, more))
    XCTAssertEqual(ofFork, expected)
    let other = try m.session()
    try await other.restore(from: path)
    let ofFile = try await text(other.generate(nil, more))
    XCTAssertEqual(ofFile, expected)
    try await other.restore(snapshot)
    let ofSnapshot = try await text(other.generate(nil, more))
    XCTAssertEqual(ofSnapshot, expected)
    let before = try await other.position
    try await other.rollback(5)
    let after = try await other.position
    XCTAssertEqual(after, before - 5)
    var damaged = snapshot
    damaged[damaged.count - 100] ^= 1
    do {
      try await other.restore(damaged)
      XCTFail("a damaged state was taken")
    } catch let error as RunnelError {
      XCTAssertEqual(error.code, .stateMismatch)
    }
  }

  func testGrammarStopAndChat() async throws {
    let m = try model("llama-f32")
    let session = try m.session()
    let grammar = try m.grammar(#"root ::= "(" [0-9]{3} ")""#)
    let number = try await text(session.generate("A number: ", .init(grammar: grammar)))
    XCTAssertNotNil(number.range(of: #"^\([0-9]{3}\)$"#, options: .regularExpression), number)
    try await session.reset()
    let whole = try await text(session.generate("Once", .init(maxTokens: 30, ignoreEnd: true)))
    let stop = String(whole.dropFirst(8).prefix(4))
    try await session.reset()
    let cut = try await text(session.generate("Once", .init(maxTokens: 30, stop: [stop], ignoreEnd: true)))
    XCTAssertEqual(cut, String(whole[..<whole.range(of: stop)!.lowerBound]))
    try await session.reset()
    let answer = try await text(session.chat([.init(role: "user", content: "Hello")], .init(maxTokens: 12)))
    XCTAssertFalse(answer.isEmpty)
  }

  func testTensors() async throws {
    let session = try model("tiny_mamba2-f32").session(.init(rows: 4))
    let ids = Tensor([1, 2, 3, 4, 5].map(Int32.init)), rows = Tensor([0, 2, 4].map(Int32.init))
    let logits = try await session.run(["ids": ids, "rows": rows])["logits"]!
    XCTAssertEqual(logits.shape.first, 3)
    XCTAssertEqual(logits.floats.count, logits.shape.reduce(1, *))
    try await session.reset()
    let last = try await session.run(["ids": ids])["logits"]!
    XCTAssertEqual(last.floats, Array(logits.floats.suffix(last.floats.count)))
  }

  func testManySessionsAtOnce() async throws {
    let m = try model("llama-f32")
    let texts = try await withThrowingTaskGroup(of: String.self) { group in
      for _ in 0..<8 { group.addTask { try await text(m.session().generate(prompt, .init(maxTokens: 20))) } }
      return try await group.reduce(into: []) { $0.append($1) }
    }
    XCTAssertEqual(Set(texts).count, 1)
  }

  #if os(Linux)
    func testTenThousandOpensWithoutGrowth() async throws {
      func resident() throws -> Int {
        let fields = try String(contentsOfFile: "/proc/self/statm", encoding: .utf8).split(separator: " ")
        return Int(fields[1])! * 4096
      }
      func open(_ times: Int) async throws {
        for i in 0..<times {
          let session = try model("llama-f32").session(.init(context: 64))
          if i % 100 == 0 { _ = try await text(session.generate("Once", .init(maxTokens: 1))) }
          if i % 2 == 0 { session.close() }
        }
      }
      try await open(1000)
      let before = try resident()
      try await open(10000)
      let grown = try resident() - before
      print("10,000 models and sessions opened and closed: \(grown) bytes more")
      XCTAssertLessThan(grown, 4 << 20)
    }
  #endif
}

/// Set once.
final class Flag: @unchecked Sendable {
  private let lock = NSLock()
  private var isSet = false
  func set() -> Bool {
    lock.withLock {
      defer { isSet = true }
      return !isSet
    }
  }
}
