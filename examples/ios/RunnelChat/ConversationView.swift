import Runnel
import SwiftUI
import UniformTypeIdentifiers

struct ConversationView: View {
  @ObservedObject var conversation: Conversation
  @State private var question = ""
  @State private var isChoosing = false

  var body: some View {
    NavigationView {
      VStack(alignment: .leading) {
        ScrollView {
          LazyVStack(alignment: .leading, spacing: 12) {
            ForEach(conversation.messages.indices, id: \.self) { index in
              let message = conversation.messages[index]
              Text(message.content)
                .padding(10)
                .background(message.role == "user" ? Color.accentColor.opacity(0.2) : Color.gray.opacity(0.15))
                .cornerRadius(12)
                .frame(maxWidth: .infinity, alignment: message.role == "user" ? .trailing : .leading)
                .textSelection(.enabled)
            }
          }
        }
        Text(conversation.status).font(.caption).foregroundColor(.secondary)
        HStack {
          TextField("Ask something", text: $question).textFieldStyle(.roundedBorder).onSubmit(send)
          if conversation.isAnswering {
            Button("Stop", action: conversation.stop)
          } else {
            Button("Send", action: send).disabled(question.isEmpty || !conversation.isReady)
          }
        }
      }
      .padding()
      .navigationTitle("Runnel")
      .toolbar { Button("Model") { isChoosing = true } }
      .fileImporter(isPresented: $isChoosing, allowedContentTypes: [UTType(filenameExtension: "rnl") ?? .data]) { chosen in
        if case .success(let file) = chosen { conversation.choose(file) }
      }
    }
  }

  private func send() {
    conversation.ask(question)
    question = ""
  }
}
