import Foundation
import Runnel
import UIKit

/// One conversation with a model: its texts and the stream that holds them, kept over restarts of the app.
@MainActor
final class Conversation: ObservableObject {
  @Published private(set) var messages: [Message] = []
  @Published private(set) var status = "Choose a model"
  @Published private(set) var isAnswering = false
  @Published private(set) var isReady = false

  private var session: Session?
  private var answer: Task<Void, Never>?
  private let folder = FileManager.default.urls(for: .documentDirectory, in: .userDomainMask)[0]
  private var modelFile: URL { folder.appendingPathComponent("model.rnl") }
  private var stateFile: URL { folder.appendingPathComponent("conversation.state") }
  private var textFile: URL { folder.appendingPathComponent("conversation.json") }

  init() {
    if FileManager.default.fileExists(atPath: modelFile.path) { Task { await open() } }
  }

  /// Copies a chosen file to where the app may map it, and opens it.
  func choose(_ file: URL) {
    let isOurs = file.startAccessingSecurityScopedResource()
    defer { if isOurs { file.stopAccessingSecurityScopedResource() } }
    do {
      for old in [modelFile, stateFile, textFile] { try? FileManager.default.removeItem(at: old) }
      try FileManager.default.copyItem(at: file, to: modelFile)
      messages = []
      Task { await open() }
    } catch {
      status = error.localizedDescription
    }
  }

  private func open() async {
    do {
      let model = try Model(path: modelFile.path, engine: Engine())
      let session = try model.session(.init(context: 4096))
      if let data = try? Data(contentsOf: textFile), let lines = try? JSONDecoder().decode([[String]].self, from: data) {
        // A state that fits no longer, such as one of an older version, costs the computing alone.
        try? await session.restore(from: stateFile.path)
        messages = lines.map { Message(role: $0[0], content: $0[1]) }
      }
      self.session = session
      isReady = true
      status = "\(model.info.name), \(model.info.fileBytes / 1_000_000) MB"
    } catch {
      status = "\(error)"
    }
  }

  func ask(_ question: String) {
    guard let session, !isAnswering else { return }
    messages.append(Message(role: "user", content: question))
    let asked = messages
    messages.append(Message(role: "assistant", content: ""))
    isAnswering = true
    answer = Task {
      let begin = Date()
      var pieces = 0
      do {
        for try await text in session.chat(asked, .init(maxTokens: 512)) {
          messages[messages.count - 1].content += text
          pieces += 1
          status = String(format: "%.1f pieces of text a second", Double(pieces) / Date().timeIntervalSince(begin))
        }
      } catch {
        status = "\(error)"
      }
      isAnswering = false
    }
  }
  func stop() { answer?.cancel() }

  /// Nothing runs on the GPU in the background, where the system would end the app for it; the stream is saved in a
  /// file, so that it costs nothing when the app is removed from memory.
  func goToBackground() {
    guard let session else { return }
    let task = UIApplication.shared.beginBackgroundTask()
    stop()
    let (state, text) = (stateFile.path, textFile)
    Task {
      await answer?.value
      try? await session.leaveDevice()
      try? await session.save(to: state)
      try? JSONEncoder().encode(messages.map { [$0.role, $0.content] }).write(to: text, options: .atomic)
      UIApplication.shared.endBackgroundTask(task)
    }
  }
}
