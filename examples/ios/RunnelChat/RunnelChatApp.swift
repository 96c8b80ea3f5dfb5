import SwiftUI

@main
struct RunnelChatApp: App {
  @StateObject private var conversation = Conversation()
  @Environment(\.scenePhase) private var phase

  var body: some Scene {
    WindowGroup { ConversationView(conversation: conversation) }
      .onChange(of: phase) { phase in
        // A background task of a moment keeps the app awake until the stream is saved.
        if phase == .background { conversation.goToBackground() }
      }
  }
}
